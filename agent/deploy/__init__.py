"""The way of a deployment: admitted, carried out, taken back if it fails, recovered after a crash."""
