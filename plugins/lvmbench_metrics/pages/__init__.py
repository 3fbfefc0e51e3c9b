"""What the page of a fit shows, a part a file: the chain from z to clusters, names, readings and pictures to order."""
