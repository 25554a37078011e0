"""Raw data of one origin becomes the tables that training reads; one sub-package an origin."""
