"`python -m calibrax` is the `calibrax` command."
from calibrax.cli.main import main

if __name__ == '__main__': main(prog_name='calibrax')
