"""A page with a filmstrip for each latent, served to a browser on this machine."""
