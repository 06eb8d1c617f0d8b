"""One algorithm a file: plain functions from state and summed replies to the next state."""
