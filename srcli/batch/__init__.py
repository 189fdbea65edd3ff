"""Many pictures from files to files: what is meant, where it goes, and who does it; nothing here imports torch."""
