"""What gunicorn serves: ``app.wsgi:app``."""

import logging
import os
import sys

from app.factory import create_app
from app.sampling import start_sampling
from app.service import EXTENSION
from app.settings import SettingsError, load_settings

logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")

try:
    app = create_app(load_settings(os.environ))
except SettingsError as error:
    sys.exit(str(error))

start_sampling(app.extensions[EXTENSION])
