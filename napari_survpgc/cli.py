"""The command line `survpgc`."""
def main() -> None:
    raise SystemExit("not yet")
