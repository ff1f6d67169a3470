"""What `bin/run`, `bin/test` and `bin/manage` share: the virtual environment and the embedded services."""
