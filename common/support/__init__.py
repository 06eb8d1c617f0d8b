"""What every part needs: files, processes, keys, text and terminals."""
