"""What notebooks find out about trained models: bounds, codes, samples, and their rivals."""
