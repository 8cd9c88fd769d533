"""The tests. What a guest leaves hot is not compiled after its end, but where that is tested: there are thousands of guests."""

import os

os.environ["POLYVM_LINGER"] = "0"
