"""The demo: one VAE on real data, trained with the naive snippet and with fastvae, eager and compiled."""
