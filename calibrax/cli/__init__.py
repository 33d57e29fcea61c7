"The `calibrax` command."
from calibrax.cli.main import main as main
