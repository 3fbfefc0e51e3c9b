"""What the yardstick measures: workloads, each side's way to train them, and the machine that they run on."""
