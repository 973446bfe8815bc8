"""`openrlhf-ext prepare WHAT`: one thin module per command."""
