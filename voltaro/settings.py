"""Settings: one file, read once from the environment, refusing to start half-configured.

Every name it reads stands in `.env.example`. None is required for the embedded default: `bin/run`,
`bin/test` and `bin/manage` set DATABASE_URL and REDIS_URL themselves.
"""

from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any

import environ
from django.core.exceptions import ImproperlyConfigured

from voltaro.navigation import UNFOLD as UNFOLD

BASE_DIR = Path(__file__).resolve().parent.parent


class Env(environ.Env):
    """The environment, whose mistakes are told by their names."""

    def get_value(self, var: str, cast: Any = None, **how: Any) -> Any:
        given = self.ENVIRON.get(var, "")
        if cast is bool and given.lower() not in {"", "0", "false", "no", "off", *self.BOOLEAN_TRUE_STRINGS}:
            raise ImproperlyConfigured(f"{var} is {given!r}; it must be 1 or 0.")
        try:
            return super().get_value(var, cast=cast, **how)
        except ValueError:
            raise ImproperlyConfigured(f"{var} is {given!r}; it must be a whole number.") from None


env = Env()

VOLTARO_ENV = env.str("VOLTARO_ENV", "dev")
if VOLTARO_ENV not in ("dev", "test", "prod"):
    raise ImproperlyConfigured(f"VOLTARO_ENV is {VOLTARO_ENV!r}; it must be dev, test or prod.")
PROD = VOLTARO_ENV == "prod"


def _needed(name: str, why: str) -> str:
    value = env.str(name, "")
    if not value:
        raise ImproperlyConfigured(f"{name} is not set: {why}")
    return value


def _networks(name: str, given: list[str]) -> list[IPv4Network | IPv6Network]:
    try:
        return [ip_network(one.strip()) for one in given]
    except ValueError as error:
        raise ImproperlyConfigured(f"{name}: {error}. Write networks such as 10.0.0.0/8 or addresses, comma-separated.") from None


DEBUG = env.bool("DEBUG", False)
_DEV_SECRET = "dev-only-" + "0" * 50
SECRET_KEY = env.str("SECRET_KEY", "" if PROD else _DEV_SECRET)
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=[] if PROD else ["*"])
PUBLIC_BASE_URL = env.str("PUBLIC_BASE_URL", "" if PROD else "http://127.0.0.1:8000").rstrip("/")
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[PUBLIC_BASE_URL] if PUBLIC_BASE_URL else [])

_HOW = "set it to your own server, or use bin/run, bin/test or bin/manage, which bring their own."
DATABASE_URL = _needed("DATABASE_URL", _HOW)
REDIS_URL = _needed("REDIS_URL", _HOW)

# -- Razorpay -----------------------------------------------------------------------------------------------
RAZORPAY_KEY_ID = env.str("RAZORPAY_KEY_ID", "" if PROD else "rzp_test_sandbox00000000")
RAZORPAY_KEY_SECRET = env.str("RAZORPAY_KEY_SECRET", "" if PROD else "sandbox-key-secret")
# current[,previous]: retries of events made before a rotation stay signed with the old secret.
RAZORPAY_WEBHOOK_SECRETS = env.list("RAZORPAY_WEBHOOK_SECRET", default=[] if PROD else ["sandbox-webhook-secret"])
RAZORPAY_BASE_URL = env.str("RAZORPAY_BASE_URL", "https://api.razorpay.com" if PROD else "http://127.0.0.1:8100").rstrip("/")
# Several environments may share one Razorpay account: our own keys sent to it start with this.
INSTANCE_PREFIX = env.str("INSTANCE_PREFIX", "" if PROD else "dev")

if PROD:
    _wrong = [
        (not SECRET_KEY or SECRET_KEY == _DEV_SECRET or len(SECRET_KEY) < 40, "SECRET_KEY must be your own, 40 characters or more"),
        (DEBUG, "DEBUG must be off"),
        (not ALLOWED_HOSTS or "*" in ALLOWED_HOSTS, "ALLOWED_HOSTS must name your hosts"),
        (not PUBLIC_BASE_URL.startswith("https://"), "PUBLIC_BASE_URL must be your https:// address"),
        (
            not RAZORPAY_KEY_ID.startswith("rzp_") or "sandbox" in RAZORPAY_KEY_ID,
            "RAZORPAY_KEY_ID is missing or the sandbox's",
        ),
        (not RAZORPAY_KEY_SECRET or RAZORPAY_KEY_SECRET.startswith("sandbox"), "RAZORPAY_KEY_SECRET is missing or the sandbox's"),
        (
            not RAZORPAY_WEBHOOK_SECRETS or any(s.startswith("sandbox") for s in RAZORPAY_WEBHOOK_SECRETS),
            "RAZORPAY_WEBHOOK_SECRET is missing or the sandbox's",
        ),
        (not RAZORPAY_BASE_URL.startswith("https://"), "RAZORPAY_BASE_URL must be https:// (the sandbox is for dev and test)"),
        (not INSTANCE_PREFIX, "INSTANCE_PREFIX must name this installation (e.g. prod)"),
        (env.bool("VOLTARO_EMBEDDED", False), "the embedded PostgreSQL and Valkey are for dev and test; set DATABASE_URL and REDIS_URL"),
    ]
    if _messages := [message for wrong, message in _wrong if wrong]:
        raise ImproperlyConfigured("VOLTARO_ENV=prod refuses to start:\n  - " + "\n  - ".join(_messages))

# -- Applications -------------------------------------------------------------------------------------------
INSTALLED_APPS = [
    "daphne",
    "unfold.apps.BasicAppConfig",
    "unfold.contrib.filters",
    "voltaro.apps.ConsoleConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "django.contrib.postgres",
    "channels",
    "rest_framework",
    "django_filters",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "axes",
    "accounts",
    "csms",
    "billing",
    "franchise",
    "voltaro",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "voltaro.csp.ConsolePolicy",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "accounts.actor.ActorMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "axes.middleware.AxesMiddleware",
]
ROOT_URLCONF = "voltaro.urls"
ASGI_APPLICATION = "voltaro.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]

# -- Data ---------------------------------------------------------------------------------------------------
# One bounded pool of threads does the chargers' database work (csms/threads.py); the rest is for HTTP and jobs.
CHARGER_THREADS = env.int("CHARGER_THREADS", 16)
DATABASES = {"default": env.db_url_config(DATABASE_URL)}
if "postgresql" not in DATABASES["default"]["ENGINE"]:
    raise ImproperlyConfigured("DATABASE_URL must be postgresql://...: Voltaro speaks one database dialect.")
DATABASES["default"].update(CONN_MAX_AGE=0, CONN_HEALTH_CHECKS=False)
DATABASES["default"].setdefault("OPTIONS", {}).update(
    pool={"min_size": 1, "max_size": CHARGER_THREADS + 12, "timeout": 15, "max_idle": 120},
    application_name=f"voltaro-{VOLTARO_ENV}",
)
if VOLTARO_ENV == "test":  # a test's database may be emptied between tests (accounts/migrations/0002)
    DATABASES["default"]["OPTIONS"]["options"] = "-c voltaro.allow_truncate=on"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
AXES_FAILURE_LIMIT = 10
AXES_COOLOFF_TIME = 0.25  # hours
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_ENABLED = VOLTARO_ENV != "test"
AXES_ENABLE_ADMIN = False  # accounts/admin.py shows the attempts in the console's own looks
AXES_LOCKOUT_TEMPLATE = "site/locked.html"
AXES_HTTP_RESPONSE_CODE = 429

CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": REDIS_URL,
        "KEY_PREFIX": "voltaro",
        "OPTIONS": {"socket_timeout": 2, "socket_connect_timeout": 2},
    }
}
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        # redis-py 8's own default of 5 s drops every idle listener.
        "CONFIG": {"hosts": [{"address": REDIS_URL, "socket_timeout": 30, "max_connections": 1000}], "prefix": "voltaro"},
    }
}
# Celery's name for a unix socket differs from everybody else's.
CELERY_BROKER_URL = (
    REDIS_URL.replace("unix://", "redis+socket://").replace("?db=", "?virtual_host=") if REDIS_URL.startswith("unix://") else REDIS_URL
)

# -- Web ----------------------------------------------------------------------------------------------------
STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
STATIC_ROOT = BASE_DIR / "staticfiles"
WHITENOISE_USE_FINDERS = not PROD
WHITENOISE_AUTOREFRESH = False
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"
        if PROD
        else "django.contrib.staticfiles.storage.StaticFilesStorage"
    },
}
LANGUAGE_CODE = "en-in"
FORMAT_MODULE_PATH = ["voltaro.formats"]
TIME_ZONE = "Asia/Kolkata"
USE_TZ = True
LOGIN_URL = "/sign-in/"
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = "/"
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "strict-origin-when-cross-origin"
X_FRAME_OPTIONS = "DENY"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_AGE = 12 * 3600
if PROD:
    SECURE_SSL_REDIRECT = True
    # Files: some chargers know no https; the signed names are their own key (csms/files.py).
    SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$", r"^firmware/", r"^uploads/"]
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SECURE_HSTS_SECONDS = 31_536_000
    SECURE_HSTS_INCLUDE_SUBDOMAINS = True
    SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = True
CONTENT_SECURITY_POLICY = {
    # The console's theme (Alpine) needs unsafe-eval: voltaro.csp gives these their own policy.
    "EXCLUDE_URL_PREFIXES": ["/admin/", "/console/"],
    "DIRECTIVES": {
        "default-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "style-src": ["'self'"],
        "script-src": ["'self'"],
        "connect-src": ["'self'", "ws:", "wss:"] if not PROD else ["'self'", "wss:"],
        "frame-ancestors": ["'none'"],
        "base-uri": ["'self'"],
        "form-action": ["'self'"],
    },
}
ADMIN_CONTENT_SECURITY_POLICY = (
    "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; "
    "script-src 'self' 'unsafe-eval'; connect-src 'self' ws: wss:; frame-ancestors 'none'; base-uri 'self'; form-action 'self'"
)

# -- REST API (voltaro/api.py) ------------------------------------------------------------------------------------
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["accounts.api.TokenAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["accounts.api.MayOperate"],
    "DEFAULT_THROTTLE_CLASSES": ["accounts.api.Throttle"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["accounts.api.Json"],
    "DEFAULT_FILTER_BACKENDS": ["django_filters.rest_framework.DjangoFilterBackend"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "accounts.api.refusal",
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Voltaro API",
    "DESCRIPTION": "Chargers and what is asked of them. Make a token in the console (People, API tokens).",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SWAGGER_UI_SETTINGS": {"persistAuthorization": False, "deepLinking": True},
    "ENUM_NAME_OVERRIDES": {"CommandState": "csms.models.CommandState"},
}

# -- OCPP: constants of the session's life (docs/map.md), seconds unless the name says otherwise ------------------
DISCONNECT_TIMEOUT_S = env.int("DISCONNECT_TIMEOUT_S", 180)
MAX_RESUME_GAP_S = env.int("MAX_RESUME_GAP_S", 900)
SOCKET_GRACE_S = env.int("SOCKET_GRACE_S", 300)
MAX_DISCONNECTS_WITHOUT_PROGRESS = env.int("MAX_DISCONNECTS_WITHOUT_PROGRESS", 3)
HEARTBEAT_TIMEOUT_S = env.int("HEARTBEAT_TIMEOUT_S", 120)
WEBHOOK_STALE_S = env.int("WEBHOOK_STALE_S", 300)
START_TIMEOUT_S = env.int("START_TIMEOUT_S", 300)
FRAME_RETENTION_DAYS = env.int("FRAME_RETENTION_DAYS", 180)
HEARTBEAT_RETENTION_DAYS = env.int("HEARTBEAT_RETENTION_DAYS", 14)
READING_RETENTION_DAYS = env.int("READING_RETENTION_DAYS", 1095)
MAX_TRANSFER_RETRIES = env.int("MAX_TRANSFER_RETRIES", 3)
# Razorpay switches Direct Transfers on per account, on request. Off: franchisees' shares are booked and held.
DIRECT_TRANSFERS_ENABLED = env.bool("DIRECT_TRANSFERS_ENABLED", True)
# From the sharing of a session to the earliest payout of it.
PAYOUT_DELAY_S = env.int("PAYOUT_DELAY_S", 0)
SESSION_SILENCE_S = env.int("SESSION_SILENCE_S", 3 * 3600)  # a live session nobody speaks of any more is ended
STOP_LEAD_S = env.int("STOP_LEAD_S", 2)  # what a stop takes to reach the charger and to be obeyed
COMMAND_TIMEOUT_S = env.int("COMMAND_TIMEOUT_S", 30)
MAX_FRAME_BYTES = env.int("MAX_FRAME_BYTES", 256 * 1024)
# At the chargers' door, per process. A charger that has come in from its address of late is let in beyond all of them.
MAX_SOCKETS = env.int("MAX_SOCKETS", 20_000)
MAX_SOCKETS_PER_ADDRESS = env.int("MAX_SOCKETS_PER_ADDRESS", 5000)  # a mobile network's chargers may share one
MAX_REFUSALS_PER_ADDRESS = env.int("MAX_REFUSALS_PER_ADDRESS", 300)  # within five minutes
# An external authorizer for tags our database does not know (csms/authorizer.py); empty: there is none.
AUTHORIZER_URL = env.str("AUTHORIZER_URL", "")
AUTHORIZER_TOKEN = env.str("AUTHORIZER_TOKEN", "")
AUTHORIZER_TIMEOUT_S = env.int("AUTHORIZER_TIMEOUT_S", 1)
AUTHORIZER_CACHE_S = env.int("AUTHORIZER_CACHE_S", 300)
# What a tag is told that nobody could be asked about: the authorizer, or our own database, is away.
AUTHORIZER_FALLBACK = env.str("AUTHORIZER_FALLBACK", "Invalid")
if AUTHORIZER_URL and not AUTHORIZER_URL.startswith(("https://", "http://")):
    raise ImproperlyConfigured("AUTHORIZER_URL must begin with https:// or http://.")
if not 1 <= AUTHORIZER_TIMEOUT_S <= 5:
    raise ImproperlyConfigured("AUTHORIZER_TIMEOUT_S must be 1 to 5: a charger waits for it.")
if AUTHORIZER_FALLBACK not in ("Invalid", "Accepted"):
    raise ImproperlyConfigured("AUTHORIZER_FALLBACK must be Invalid or Accepted.")
CHARGER_LOCK_TIMEOUT_MS = 3_000
CHARGER_STATEMENT_TIMEOUT_MS = 10_000
REFUND_SPEED = env.str("REFUND_SPEED", "optimum")
if REFUND_SPEED not in ("optimum", "normal"):
    raise ImproperlyConfigured("REFUND_SPEED must be optimum or normal.")
# The credentials of chargers are keyed hashes under this; changing it locks every charger out.
CHARGER_KEY_PEPPER = env.str("CHARGER_KEY_PEPPER", "") or SECRET_KEY
# How long a new key, or a higher security profile, may wait for its first use before a person is told.
PENDING_KEY_DAYS = env.int("PENDING_KEY_DAYS", 7)
# Networks of the proxies whose word on a client's address, TLS and certificate is believed (voltaro/proxies.py); nobody else's is.
TRUSTED_PROXIES = _networks("TRUSTED_PROXIES", env.list("TRUSTED_PROXIES", default=[]))
# Our own authority for chargers' certificates (csms/authority.py): its folder, and what its private keys are locked with.
CHARGER_CA_DIR = env.str("CHARGER_CA_DIR", "")
CHARGER_CA_PASSPHRASE = env.str("CHARGER_CA_PASSPHRASE", "")
# The operator's name as it stands in the chargers' certificates (organisation) and their CpoName.
CPO_NAME = env.str("CPO_NAME", "Voltaro")
# -- Files: firmware that chargers fetch, diagnostics and logs that they send (csms/files.py) -----------------------
MEDIA_ROOT = Path(env.str("MEDIA_ROOT", "") or ("/var/lib/voltaro/files" if PROD else BASE_DIR / ".data" / "files"))
FILE_UPLOAD_PERMISSIONS, FILE_UPLOAD_DIRECTORY_PERMISSIONS = 0o600, 0o700
MAX_UPLOAD_BYTES = env.int("MAX_UPLOAD_BYTES", 50 * 1024 * 1024)
MAX_FIRMWARE_BYTES = env.int("MAX_FIRMWARE_BYTES", 200 * 1024 * 1024)
UPLOAD_RETENTION_DAYS = env.int("UPLOAD_RETENTION_DAYS", 30)
# How chargers reach this site for files, when it is not PUBLIC_BASE_URL: another name, plain http, a port to be named.
CHARGER_FILES_URL = env.str("CHARGER_FILES_URL", "").rstrip("/") or PUBLIC_BASE_URL
if not CHARGER_FILES_URL.startswith(("http://", "https://")):
    raise ImproperlyConfigured("CHARGER_FILES_URL must begin with http:// or https://.")
# Under VOLTARO_ENV=test only: a file holding the seconds by which the clock is moved forward.
CLOCK_FILE = env.str("VOLTARO_CLOCK_FILE", "") if VOLTARO_ENV == "test" else ""

# Whom /metrics answers in production besides the machine itself: the bearer of this.
METRICS_TOKEN = env.str("METRICS_TOKEN", "")

# -- Logs ---------------------------------------------------------------------------------------------------
LOG_LEVEL = env.str("LOG_LEVEL", "INFO")
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": LOG_LEVEL},
    "loggers": {
        # The library logs whole frames at INFO: idTags and 250 KB payloads do not belong in a log.
        "ocpp": {"level": "CRITICAL"},
        # It logs URLs, and Razorpay's carry payment ids.
        "httpx": {"level": "WARNING"},
        "httpcore": {"level": "WARNING"},
        "daphne": {"level": "WARNING"},
        "django.channels.server": {"level": "WARNING"},
        "axes": {"level": "WARNING"},
    },
}
