"""A run or sweep directory as one self-contained HTML file, the answer first: `python -m ajet.report <folder>`."""
