"""Where nodes come from: `base` is the interface; `local`, `simulated` and `azure` implement it."""
