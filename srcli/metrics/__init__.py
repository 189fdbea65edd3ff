"""What results are measured with."""
