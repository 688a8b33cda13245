"""How long `manylambda` and its peers take for the same packages; never shipped, stdlib only."""
