"""People, companies, roles, and the record of deeds, in the console."""

from typing import Any

from axes.models import AccessAttempt
from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import Group
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from unfold.admin import ModelAdmin, TabularInline
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm
from unfold.paginator import InfinitePaginator

from accounts.filters import ScopedRelatedFilter
from accounts.models import AuditEntry, Company, Membership, User, Vehicle
from accounts.roles import companies_of, sees_everything
from accounts.scoped_admin import ReadOnlyAdmin, ScopedAdmin

# Rights come from memberships: Django's groups would be a second table of the same.
admin.site.unregister(Group)


def masked(secret: str) -> str:
    """A phone number or UPI id as people may see it in a list: enough to recognise, too little to use."""
    name, at, bank = secret.partition("@")
    if not name:
        return "–"
    return f"{name[:2]}{'•' * max(3, len(name) - 4)}{name[-2:] if len(name) > 5 else ''}{at}{bank}"


class MembershipInline(TabularInline):
    model = Membership
    extra = 0
    fk_name = "user"
    fields = ["company", "role"]

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return True

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return sees_everything(request.user)

    has_change_permission = has_delete_permission = has_add_permission


@admin.register(User)
class PersonAdmin(UserAdmin, ScopedAdmin):
    """People. Only admins change them; only a superuser touches what makes a superuser; UPI guests cannot sign in."""

    form, add_form, change_password_form = UserChangeForm, UserCreationForm, AdminPasswordChangeForm
    list_display = ["username", "name", "provider", "roles", "masked_phone", "masked_vpa", "is_active", "last_login"]
    list_filter = ["provider", "is_active", "is_superuser", "memberships__role"]
    search_fields = ["username", "first_name", "last_name", "email"]
    ordering = ["-id"]
    filter_horizontal = []
    inlines = [MembershipInline]
    fieldsets = [
        (None, {"fields": ["username", "password"]}),
        ("Person", {"fields": ["first_name", "last_name", "email", "provider", "masked_phone", "phone_verified_at", "masked_vpa"]}),
        ("Rights", {"fields": ["is_active", "is_staff", "is_superuser"]}),
        ("Times", {"fields": ["last_login", "date_joined"]}),
    ]
    add_fieldsets = [(None, {"fields": ["username", "password1", "password2"]})]
    always_readonly = ["provider", "masked_phone", "phone_verified_at", "masked_vpa", "last_login", "date_joined"]

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        people = ModelAdmin.get_queryset(self, request).prefetch_related("memberships__company")
        if sees_everything(request.user):
            return people
        mine = companies_of(request.user)
        members = Membership.objects.filter(company__in=mine).values("user")
        return people.filter(Q(pk__in=members) | Q(pk__in=User.objects.filter(sessions__company__in=mine).values("pk")))

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> list[str]:
        guarded = [] if request.user.is_superuser else ["is_staff", "is_superuser"]
        # Nobody locks themselves out or lets themselves in.
        return [*self.always_readonly, *guarded, *(["is_active"] if obj is not None and obj.pk == request.user.pk else [])]

    def has_add_permission(self, request: HttpRequest, *args: Any) -> bool:
        return sees_everything(request.user)

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return sees_everything(request.user) and (request.user.is_superuser or obj is None or not obj.is_superuser)

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return False  # people are switched off: their sessions and payments keep their names

    @admin.display(description="Name")
    def name(self, person: User) -> str:
        return person.get_full_name() or "–"

    @admin.display(description="Roles")
    def roles(self, person: User) -> str:
        roles = [f"{m.get_role_display()} ({m.company.name})" for m in person.memberships.all()]
        return ", ".join(["Superuser"] * person.is_superuser + roles) or "Rider"

    @admin.display(description="Phone")
    def masked_phone(self, person: User) -> str:
        return masked(person.phone)

    @admin.display(description="UPI id")
    def masked_vpa(self, person: User) -> str:
        return masked(person.vpa)


@admin.register(Company)
class CompanyAdmin(ScopedAdmin):
    list_display = ["name", "legal_name", "gstin", "state", "parent"]
    list_filter = ["state"]
    list_select_related = ["parent"]
    search_fields = ["name", "legal_name", "gstin"]
    autocomplete_fields = ["parent"]


@admin.register(Membership)
class MembershipAdmin(ScopedAdmin):
    """Who may do what. Only admins give roles: an operator who could would make themselves one."""

    list_display = ["user", "role", "company", "created_at"]
    list_filter = ["role", ("company", ScopedRelatedFilter)]
    list_select_related = ["user", "company"]
    search_fields = ["user__username", "company__name"]
    autocomplete_fields = ["user", "company"]

    def has_add_permission(self, request: HttpRequest, *args: Any) -> bool:
        return sees_everything(request.user)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return sees_everything(request.user)


@admin.register(Vehicle)
class VehicleAdmin(ScopedAdmin):
    list_display = ["licence_plate", "make", "model", "owner", "created_at"]
    list_select_related = ["owner"]
    search_fields = ["licence_plate", "owner__username"]
    autocomplete_fields = ["owner"]


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnlyAdmin):
    """Who did what. The table grows for ever: it is read from its end, page by page, and never counted."""

    list_display = ["at", "actor", "actor_type", "action", "target_type", "target_id", "trigger", "company"]
    list_filter = ["actor_type", "target_type", "at"]
    list_select_related = ["company"]
    search_fields = ["=action", "=target_id", "=actor"]
    search_help_text = "An action, an actor or the number of a row, exactly."
    paginator = InfinitePaginator


@admin.register(AccessAttempt)
class AccessAttemptAdmin(ModelAdmin):
    """Wrong passwords. Deleting a row opens the door again before the quarter of an hour is over."""

    list_display = ["attempt_time", "username", "ip_address", "failures_since_start", "user_agent"]
    search_fields = ["username", "ip_address"]
    fields = readonly_fields = ["attempt_time", "username", "ip_address", "user_agent", "path_info", "failures_since_start"]

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return sees_everything(request.user)

    has_module_permission = has_delete_permission = has_view_permission

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


from accounts import token_admin  # noqa: E402, F401 - registers itself
