"""The whole story in one command, on synthetic voices or a person's own folder: data, run, report."""
