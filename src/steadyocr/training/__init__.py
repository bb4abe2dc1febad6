"""The offline side: data, model, loss and loop of the detector."""
