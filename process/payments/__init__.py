"""An invented payment app: users with features who search, visit and pay, in Alipay's shape."""
