"""Commands of `controltower`, one file a topic; cli.py registers them."""
