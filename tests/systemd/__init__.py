"""A package only so that its conftest is not taken for another one."""
