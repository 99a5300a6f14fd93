"""What runs inside the sandbox: the zygote, the confinement and the runner. Standard library only; never imports
restrl.

The zygote loads these modules by path under the names of this package without running `restrl.__init__`, so that
neither the library nor any test data is in the memory that an untrusted program inherits.
"""
