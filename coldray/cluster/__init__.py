"""How a cluster comes up on one machine, and how work is given to one."""
