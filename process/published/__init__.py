"""Published data sets as they are downloaded: a folder is recognised by its files and read as own
data are (``process.table``), so that filters, splits, report and data YAML are the same."""
