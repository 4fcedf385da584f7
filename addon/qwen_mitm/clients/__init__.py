"""What the programs that use the proxy are told: environment, provider and models. Pure."""
