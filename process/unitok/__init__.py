"""UniTok folders, of version 4 and of version 3, become tables with their own vocabularies."""
