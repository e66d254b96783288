"""Random histories against a reference model, and concurrent ones against every order that explains them."""
