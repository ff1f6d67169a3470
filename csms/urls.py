from django.urls import path

from csms import batch_views, charging_views, command_views, file_views, firmware_views, history_views, log_views, upload_views, views

app_name = "csms"
urlpatterns = [
    # files, for chargers
    path("firmware/<str:name>", file_views.fetch_firmware, name="firmware-file"),
    path("uploads/<path:name>", file_views.take_upload, name="upload-file"),
    path("console/firmware/", firmware_views.firmware_home, name="firmware"),
    path("console/firmware/images/<int:pk>/", firmware_views.firmware_image, name="firmware-image"),
    path("console/firmware/images/<int:pk>/remove/", firmware_views.remove_image, name="firmware-image-remove"),
    path("console/firmware/updates/<int:pk>/", firmware_views.firmware_update, name="firmware-update"),
    path("console/firmware/updates/<int:pk>/live/", firmware_views.firmware_update_live, name="firmware-update-live"),
    path("console/firmware/updates/<int:pk>/cancel/", firmware_views.cancel_update, name="firmware-update-cancel"),
    path("console/chargers/<int:pk>/firmware/", firmware_views.charger_firmware, name="charger-firmware"),
    path("console/chargers/<int:pk>/files/", upload_views.charger_files, name="charger-files"),
    path("console/chargers/<int:pk>/files/live/", upload_views.charger_files_live, name="charger-files-live"),
    path("console/uploads/<int:pk>/", upload_views.download, name="upload-download"),
    path("console/uploads/<int:pk>/cancel/", upload_views.cancel, name="upload-cancel"),
    path("console/chargers/", views.chargers, name="chargers"),
    path("console/chargers/<int:pk>/", views.charger, name="charger"),
    path("console/chargers/<int:pk>/live/", views.charger_live, name="charger-live"),
    path("console/chargers/<int:pk>/history/", history_views.history, name="history"),
    path("console/chargers/<int:pk>/charging/", charging_views.charging, name="charging"),
    path("console/chargers/<int:pk>/charging/clear/", charging_views.clear, name="clear-charging"),
    path("console/chargers/<int:pk>/charging/schedule/", charging_views.read_schedule, name="charging-schedule"),
    path("console/chargers/<int:pk>/signal.json", history_views.signal_series, name="signal"),
    # commands
    path("console/chargers/<int:pk>/ask/<str:action>/", command_views.ask, name="ask"),
    path("console/commands/<int:pk>/", command_views.command, name="command"),
    path("console/commands/<int:pk>/live/", command_views.command_live, name="command-live"),
    path("console/commands/<int:pk>/again/", command_views.again, name="command-again"),
    path("console/commands/<int:pk>/withdraw/", command_views.withdraw, name="command-withdraw"),
    path("console/batches/", batch_views.batch_list, name="batches"),
    path("console/batches/new/", batch_views.new, name="batch-new"),
    path("console/batches/<int:pk>/", batch_views.batch, name="batch"),
    path("console/batches/<int:pk>/live/", batch_views.batch_live, name="batch-live"),
    path("console/batches/<int:pk>/withdraw/", batch_views.withdraw, name="batch-withdraw"),
    path("console/frames/<int:pk>/", log_views.frame, name="frame"),
    path("console/messages/", log_views.messages, name="messages"),
    path("console/messages/<int:pk>/", log_views.message, name="message"),
    path("console/messages.csv", log_views.messages_csv, name="messages-csv"),
    path("console/sessions/<int:pk>/replay/", log_views.session_replay, name="replay"),
    path("console/sessions/<int:pk>/curve.json", views.curve, name="curve"),
    path("console/sessions/<int:pk>/stop/", views.stop, name="stop"),
]
