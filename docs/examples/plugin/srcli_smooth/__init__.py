"""An example of a plug-in for srcli: a package with a decoder, an encoder, an objective, a metric and a preset."""
