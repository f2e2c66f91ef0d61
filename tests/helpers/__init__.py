"""What tests share: small models, stores, pages, stand-ins."""
