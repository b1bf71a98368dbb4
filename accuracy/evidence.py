"""Evidence that may be read at any time: mixtures of bets on variables in [0, 1] (e-processes), and the scores that they bet on."""
