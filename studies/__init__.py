"""Studies: what was measured once to answer a question, with its results. They import train; nothing imports them."""
