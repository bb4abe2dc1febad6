"""What an operator needs beside the service: units, self-checks."""
