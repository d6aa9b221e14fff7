"""The work of `compalign score`, and what it shares with the other commands: kinds and regions."""
