"""The example with the Stop button, served on loopback."""

import importlib.util
import socket
import sys
import threading
from pathlib import Path

import pytest
import uvicorn

from griptape_ollama import OllamaPromptDriver

APP = Path(__file__).parents[3] / "examples" / "fastapi_stop_button" / "app.py"


@pytest.fixture
def app_script():
    return APP


@pytest.fixture(scope="session")
def example():
    spec = importlib.util.spec_from_file_location("fastapi_stop_button_app", APP)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def url(example, simulator):
    """Address of the page, whose model is the simulator."""
    driver = OllamaPromptDriver(model="simulator", host=simulator.host)
    app = example.create_app(driver, "Model <simulator>")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield "http://{}:{}".format(*listener.getsockname())
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()
    driver.connection.close()
