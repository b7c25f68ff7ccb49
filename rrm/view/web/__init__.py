"""The local web app over run folders: `rrm.view.web.app.create_app`."""
