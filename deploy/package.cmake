# Copies the Python package FROM its source into the folder TO, without what an editable
# installation has put there: that is of another build.
file(COPY ${FROM} DESTINATION ${TO}
     PATTERN __pycache__ EXCLUDE PATTERN _peach.so EXCLUDE PATTERN programs EXCLUDE)
