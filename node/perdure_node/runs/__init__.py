"""Running the code of workflows: a loop of its own for each run, and what it may ask for."""
