"""The REST API of chargers: look at them, ask something of them, follow what becomes of it."""

from typing import Any

import django_filters
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import Http404
from django.shortcuts import get_object_or_404
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema, extend_schema_field
from rest_framework import exceptions, generics, pagination, serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse
from rest_framework.views import APIView

from accounts.api import as_person
from accounts.doors import may_operate
from csms import calls, commands
from csms.models import ChargePoint, Command, CommandState, Connector


class Pages(pagination.CursorPagination):
    """Newest first; `next` and `previous` are the addresses of the pages beside this one."""

    page_size = 50
    max_page_size = 200
    page_size_query_param = "page_size"
    ordering = "-id"


class ConnectorSerializer(serializers.ModelSerializer):
    class Meta:
        model = Connector
        fields = ["connector_id", "code", "type", "max_power_w", "status", "error_code", "availability_wanted", "last_updated"]


class ChargePointSerializer(serializers.ModelSerializer):
    """What it says of itself (`status` ...) and what is wanted of it (`availability_wanted`), apart."""

    station = serializers.CharField(source="station.name", default=None, read_only=True)
    company = serializers.CharField(source="company.name", read_only=True)
    connectors = ConnectorSerializer(many=True, read_only=True)

    class Meta:
        model = ChargePoint
        fields = [
            "cp_id", "online", "registration", "status", "error_code", "availability_wanted", "vendor", "model", "firmware_version",
            "serial_number", "security_profile", "station", "company", "last_seen", "last_heartbeat", "last_boot", "connectors",
        ]  # fmt: skip


class CommandSerializer(serializers.ModelSerializer):
    """A command and its life. `state`: queued, sent, then accepted (promised), effective (done), rejected, error, timeout...

    `response` is the charger's own answer. Times are null until they happen.
    """

    charge_point = serializers.CharField(source="charge_point.cp_id", read_only=True)
    payload = serializers.SerializerMethodField(
        help_text="As it is sent; secrets and payments' tags are masked, and all tags for those who may not send commands."
    )
    final = serializers.SerializerMethodField(help_text="Whether its state changes no more.")

    class Meta:
        model = Command
        fields = [
            "id", "charge_point", "action", "payload", "state", "final", "response", "error", "note", "trigger", "requested_by",
            "created_at", "expires_at", "sent_at", "answered_at", "settled_at",
        ]  # fmt: skip

    @extend_schema_field(OpenApiTypes.OBJECT)
    def get_payload(self, row: Command) -> Any:
        return commands.shown(row, tags=may_operate(self.context["request"].user))

    def get_final(self, row: Command) -> bool:
        return row.settled_at is not None or row.state in (
            CommandState.EFFECTIVE,
            CommandState.EXPIRED,
            CommandState.REJECTED,
            CommandState.ERROR,
        )


class AskSerializer(serializers.Serializer):
    action = serializers.ChoiceField(choices=sorted(calls.CALLS), help_text="The OCPP 1.6 call.")
    payload = serializers.DictField(default=dict, help_text="Its payload, as the standard's schema has it.")
    expires_in_s = serializers.IntegerField(
        required=False, min_value=1, max_value=86_400, help_text="How long it waits for a charger that is not connected, seconds."
    )
    secret = serializers.BooleanField(
        default=False,
        help_text="Of ChangeConfiguration and DataTransfer: the value is nobody's to read, here or in what comes back. "
        "Keys whose name says so (WifiKey, VendorPassword ...) are secrets without this.",
    )


class ErrorSerializer(serializers.Serializer):
    class Body(serializers.Serializer):
        code = serializers.CharField()
        message = serializers.CharField(help_text="A sentence for people.")
        fields = serializers.DictField(help_text="What is wrong with which field.")

    error = Body()


class ChargePointFilter(django_filters.FilterSet):
    class Meta:
        model = ChargePoint
        fields = ["online", "status", "registration", "vendor", "model", "firmware_version"]


class CommandFilter(django_filters.FilterSet):
    class Meta:
        model = Command
        fields = ["state", "action"]


def chargers_of(request: Request) -> QuerySet[ChargePoint]:
    """This person's chargers. Who only waits in the onboarding inbox is none yet: nobody has claimed it."""
    return ChargePoint.objects.visible_to(request.user).filter(unclaimed=False)


def charge_point_of(request: Request, cp_id: str) -> ChargePoint:
    """One of this person's chargers, by its OCPP identity in any case. Raises Http404."""
    if "\0" in cp_id:  # no text of a database has that
        raise Http404
    return get_object_or_404(chargers_of(request), cp_id__iexact=cp_id)


class ChargePoints(generics.ListAPIView):
    """The chargers this token may see."""

    serializer_class = ChargePointSerializer
    pagination_class = Pages
    filterset_class = ChargePointFilter

    def get_queryset(self) -> QuerySet[ChargePoint]:
        return chargers_of(self.request).select_related("station", "company").prefetch_related("connectors")


class ChargePointDetail(APIView):
    """One charger."""

    @extend_schema(responses={200: ChargePointSerializer, 404: ErrorSerializer})
    def get(self, request: Request, cp_id: str) -> Response:
        return Response(ChargePointSerializer(charge_point_of(request, cp_id)).data)


class Commands(generics.ListAPIView):
    """What was asked of a charger, and what became of it."""

    serializer_class = CommandSerializer
    pagination_class = Pages
    filterset_class = CommandFilter

    def get_queryset(self) -> QuerySet[Command]:
        if getattr(self, "swagger_fake_view", False):
            return Command.objects.none()
        return Command.objects.filter(charge_point=charge_point_of(self.request, self.kwargs["cp_id"])).select_related("charge_point")

    @extend_schema(
        request=AskSerializer,
        parameters=[OpenApiParameter("Idempotency-Key", str, OpenApiParameter.HEADER, description="The same key asks once.")],
        responses={
            202: CommandSerializer,
            200: OpenApiResponse(CommandSerializer, description="Asked before under this Idempotency-Key."),
            400: ErrorSerializer,
            403: ErrorSerializer,
            404: ErrorSerializer,
            409: OpenApiResponse(ErrorSerializer, description="This Idempotency-Key asked for something else before."),
            429: ErrorSerializer,
        },
    )
    def post(self, request: Request, cp_id: str) -> Response:
        """Ask something of the charger. It is queued, sent when the charger can hear it, and followed by GET."""
        charge_point = charge_point_of(request, cp_id)
        asked = AskSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        key = request.headers.get("Idempotency-Key", "")
        wanted = asked.validated_data
        newest = Command.objects.filter(charge_point=charge_point).order_by("-id").values_list("pk", flat=True).first() or 0
        try:
            with as_person(request):
                row = commands.ask(
                    charge_point,
                    wanted["action"],
                    wanted["payload"],
                    by=request.user.get_username(),
                    trigger="api",
                    idempotency_key=key or None,
                    expires_in_s=wanted.get("expires_in_s"),
                    secret=wanted["secret"],
                )
        except ValidationError as error:
            raise _refused(error) from None
        repeated = row.pk <= newest
        body = CommandSerializer(row, context={"request": request}).data
        where = reverse("api-command", args=[charge_point.cp_id, row.pk], request=request)
        return Response(body, status.HTTP_200_OK if repeated else status.HTTP_202_ACCEPTED, headers={"Location": where})


class Conflict(exceptions.APIException):
    """The key was used for something else."""

    status_code = status.HTTP_409_CONFLICT
    default_code = "conflict"


class TooMany(exceptions.APIException):
    """More commands than one asker sends by hand."""

    status_code = status.HTTP_429_TOO_MANY_REQUESTS
    default_code = "too_many"


def _refused(error: ValidationError) -> exceptions.APIException:
    """What `commands.ask` says, in the API's words."""
    code = getattr(error, "code", None)
    if code in ("idempotency_key", "too_many"):
        return {"idempotency_key": Conflict, "too_many": TooMany}[code](" ".join(error.messages))
    return exceptions.ValidationError({"payload": error.messages})


class CommandDetail(APIView):
    """One command's life."""

    @extend_schema(responses={200: CommandSerializer, 404: ErrorSerializer})
    def get(self, request: Request, cp_id: str, pk: int) -> Response:
        rows = Command.objects.filter(charge_point=charge_point_of(request, cp_id)).select_related("charge_point")
        return Response(CommandSerializer(get_object_or_404(rows, pk=pk), context={"request": request}).data)
