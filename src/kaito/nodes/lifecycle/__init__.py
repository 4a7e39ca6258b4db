"""What happens to a claim, decided without talking to anybody: one module per condition, and `plan` that joins them.

`world` is what a decision sees and what it may ask for; nothing here reads a clock or the network.
"""
