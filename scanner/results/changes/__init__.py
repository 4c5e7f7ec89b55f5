"""Two runs compared: what became of every site, and the ledger that carries sites on."""
