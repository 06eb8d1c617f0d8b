"""The server's part of differential privacy: noise, and the record of what is spent."""
