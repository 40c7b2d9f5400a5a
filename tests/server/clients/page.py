"""The page in Chromium: page.py URL PICTURE [SCREENSHOT]. Drops a picture, asks, stops, edits, looks at the gates; by
keyboard, on a phone, with a key, with a server that goes away. TROL_SERVER: the program; TROL_SOURCE: the source tree;
AXE: axe.min.js of the npm package axe-core, which finds what is not accessible (left out without)."""
import base64
import json
import os
import subprocess
import sys
import time
import traceback
import urllib.parse
import urllib.request

from selenium import webdriver
from selenium.common.exceptions import TimeoutException
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

url, image_path = sys.argv[1:3]
options = webdriver.ChromeOptions()
options.binary_location = "/usr/bin/chromium"
for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=900,860"):
    options.add_argument(argument)
options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
driver = webdriver.Chrome(options=options, service=webdriver.ChromeService("/usr/bin/chromedriver"))


class Wait:
    """Waits, and shows what the page shows where that was for nothing."""

    def until(self, condition):
        try:
            WebDriverWait(driver, 60).until(condition)
        except TimeoutException:
            lines = "".join(traceback.format_stack(limit=2)[:1])
            check(False, lines, driver.find_element(By.TAG_NAME, "body").text, driver.get_log("browser"))


wait = Wait()


def check(condition, *what):
    if not condition:
        print("FAILED:", *what)
        driver.quit()
        sys.exit(1)


def find(selector):
    return driver.find_elements(By.CSS_SELECTOR, selector)


def ask(text):
    box = driver.find_element(By.ID, "question")
    box.send_keys(text)
    box.send_keys(Keys.ENTER)


TRANSFER = """const bytes = Uint8Array.from(atob(arguments[0]), (c) => c.charCodeAt(0));
    const transfer = new DataTransfer();
    transfer.items.add(new File([bytes], 'picture.png', { type: 'image/png' }));"""


def drop(path):
    driver.execute_script(
        TRANSFER + "document.body.dispatchEvent(new DragEvent('drop', { dataTransfer: transfer, bubbles: true, cancelable: true }));",
        base64.b64encode(open(path, "rb").read()).decode())


def answers():
    return driver.execute_script(
        "return [...document.querySelectorAll('.turn.assistant .words')].map((e) => e.textContent)")


def finished():
    return find("#send")[0].is_displayed()


def setting(name, value):
    driver.find_element(By.ID, "drawer-open").click()
    field = driver.find_element(By.ID, name)
    if field.get_attribute("type") == "checkbox":
        if field.is_selected() != value:
            field.click()
    else:
        field.clear()
        field.send_keys(value + Keys.TAB)
    driver.find_element(By.ID, "drawer-close").click()


driver.get(url)
wait.until(lambda d: "trol" in d.title and "server" not in d.title)

# a dropped picture, a question, an answer that comes in pieces, the gates over the picture
setting("gates", True)
drop(image_path)
wait.until(lambda d: find("#waiting img"))
ask("What color is the heart?")
wait.until(lambda d: answers() and "heart is red" in answers()[0] and finished())
check(find(".turn.user img"), "the question does not show its picture")
check("tokens" in find(".turn.assistant .note")[-1].text, "no times")
canvas = find(".heat canvas")
check(len(canvas) == 1, "no heat map")
pixels = "const c = document.querySelector('.heat canvas'); return Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data)"
before = driver.execute_script(pixels)
check(len(set(before)) > 1 and min(before[3::4]) > 0, "the heat map is empty")
driver.execute_script("const s = document.querySelector('.heat input'); s.value = s.max; s.dispatchEvent(new Event('input'))")
check("Layer 4 of 4" in find(".heat .note")[0].text, find(".heat .note")[0].text)
if len(sys.argv) > 3:
    driver.execute_script("document.querySelector('.turn.user').scrollIntoView()")
    time.sleep(0.3)
    driver.save_screenshot(sys.argv[3])

# a second turn; the first question edited and asked again
setting("gates", False)
ask("How many objects are there?")
wait.until(lambda d: len(answers()) == 2 and answers()[1] and finished())
find(".turn.user button")[0].click()
area = driver.find_element(By.CSS_SELECTOR, ".turn textarea")
area.clear()
area.send_keys("What color is the star?" + Keys.ENTER)
wait.until(lambda d: len(answers()) == 1 and "yellow" in answers()[0] and finished())

# an answer that is stopped, and asked for again: so many hearts are answered without an end
endless = "heart " * 400
setting("length", "100000")
driver.execute_script("document.getElementById('question').value = arguments[0]", endless)
ask("")
wait.until(lambda d: len(answers()) == 2 and len(answers()[1]) > 20 and not finished())
find("#stop")[0].click()
wait.until(lambda d: finished())
check("stopped" in find(".turn.assistant .note")[-1].text, "the turn does not show that it was stopped")
setting("length", "30")
[b for b in find(".turn.assistant button") if b.text == "Retry"][-1].click()
wait.until(lambda d: len(answers()) == 2 and answers()[1] and finished())

# a file that is not a picture: the server's error is shown
driver.execute_script(
    """const transfer = new DataTransfer();
       transfer.items.add(new File(['nothing'], 'broken.png', { type: 'image/png' }));
       document.body.dispatchEvent(new DragEvent('drop', { dataTransfer: transfer, bubbles: true, cancelable: true }));""")
wait.until(lambda d: find("#waiting img"))
ask("What is this?")
wait.until(lambda d: find(".error") and find(".error")[-1].text)

# conversations survive a reload
time.sleep(0.5)
driver.refresh()
wait.until(lambda d: "server" not in d.title)
driver.find_element(By.ID, "drawer-open").click()
wait.until(lambda d: find("#conversations li"))
find("#conversations li button")[0].click()
wait.until(lambda d: answers() and "yellow" in answers()[0])

# several pictures, one of them pasted, one removed
driver.find_element(By.ID, "new").click()
drop(image_path)
wait.until(lambda d: len(find("#waiting img")) == 1)
driver.execute_script(TRANSFER + """
    document.body.dispatchEvent(new ClipboardEvent('paste', { clipboardData: transfer, bubbles: true, cancelable: true }));""",
    base64.b64encode(open(image_path, "rb").read()).decode())
wait.until(lambda d: len(find("#waiting img")) == 2)
drop(image_path)
wait.until(lambda d: len(find("#waiting img")) == 3)
find("#waiting button")[2].click()
wait.until(lambda d: len(find("#waiting img")) == 2)
setting("gates", True)
ask("What color is the heart?")
wait.until(lambda d: answers() and answers()[0] and finished())
check(len(find(".turn.user img")) == 2 and len(find(".heat canvas")) == 2, "two pictures are not shown twice")
setting("gates", False)

# an answer that follows a schema, and a schema that is not JSON
setting("schema", '{"type":"object","properties":{"red":{"type":"boolean"}},"required":["red"],"additionalProperties":false}')
ask("Is the heart red?")
wait.until(lambda d: len(answers()) == 2 and answers()[1] and finished())
check(isinstance(json.loads(answers()[1])["red"], bool), answers())
driver.execute_script("settings.schema = '{nothing'")
ask("And now?")
wait.until(lambda d: find(".error") and "is not JSON" in find(".error")[-1].text and finished())
setting("schema", "")

# export; dark and light; the message where the browser's storage is full
driver.execute_script("window.made = null; URL.createObjectURL = (b) => { b.text().then((t) => window.made = t); return 'data:,'; }")
driver.find_element(By.ID, "drawer-open").click()
driver.find_element(By.ID, "export").click()
wait.until(lambda d: driver.execute_script("return window.made"))
exported = json.loads(driver.execute_script("return window.made"))
check([t["role"] for t in exported["turns"]][:2] == ["user", "assistant"] and len(exported["turns"][0]["images"]) == 2, exported["turns"][0].keys())
driver.find_element(By.ID, "drawer-close").click()
background = "return getComputedStyle(document.body).backgroundColor"
setting("dark", True)
dark = driver.execute_script(background)
setting("dark", False)
check(dark != driver.execute_script(background), "dark looks like light")
driver.execute_script("Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceededError'); }")
setting("length", "31")
wait.until(lambda d: "not kept" in find("#status")[0].text)

# by keyboard alone: from the start of the page to a question, its answer, and back
driver.get(url)
wait.until(lambda d: "server" not in d.title)
driver.execute_script("document.querySelector('a').focus()")


def press(*keys):
    ActionChains(driver).send_keys(*keys).perform()


def focused():
    return driver.execute_script("return document.activeElement.id || document.activeElement.className")


seen = [focused()]
while len(seen) < 20 and "send" not in seen:
    press(Keys.TAB)
    seen.append(focused())
check({"skip", "new", "drawer-open", "question", "choose", "photograph", "send"} <= set(seen), seen)
for _ in range(3):
    ActionChains(driver).key_down(Keys.SHIFT).send_keys(Keys.TAB).key_up(Keys.SHIFT).perform()
check(focused() == "question", "the question does not get the focus back:", focused())
press("What is a circle?" + Keys.ENTER)
wait.until(lambda d: answers() and answers()[0] and finished())
check(focused(), "the focus is lost after an answer")
check(answers()[0] in find("#spoken")[0].get_attribute("textContent"), "a screen reader does not get the answer")

# a phone: nothing is wider than the screen
driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": 375, "height": 667, "deviceScaleFactor": 2, "mobile": True})
for place in ("main", "drawer"):
    if place == "drawer":
        driver.find_element(By.ID, "drawer-open").click()
    wide = driver.execute_script("return document.querySelector(arguments[0]).scrollWidth", "dialog" if place == "drawer" else "html")
    check(wide <= 375, place, "is wider than a phone:", wide)
check(driver.execute_script("return document.getElementById('send').getBoundingClientRect().right") <= 375, "Send is outside")

# what axe finds: on a phone with the drawer open, without it, and in the dark
if os.environ.get("AXE"):
    for state in ("drawer", "light", "dark"):
        if state == "light":
            driver.find_element(By.ID, "drawer-close").click()
        if state == "dark":
            setting("dark", True)
        driver.execute_script(open(os.environ["AXE"]).read())
        found = driver.execute_async_script("const done = arguments[0]; axe.run().then((r) => done(r.violations))")
        check(not found, state, [(v["id"], v["help"], [n["html"][:200] for n in v["nodes"]]) for v in found])
driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})

severe = [e for e in driver.get_log("browser") if e["level"] == "SEVERE" and "422" not in e["message"]]
check(not severe, severe)


# a server that asks for a key; it goes away in the middle of an answer, and comes back
def start(port):
    process = subprocess.Popen(
        [os.environ["TROL_SERVER"], "-m", os.environ["TROL_SOURCE"] + "/models/trol-tiny-internlm2", "--port", str(port),
         "--api-key", "a-key", "-q", "-c", "20000"], stdout=subprocess.PIPE, text=True)
    address = process.stdout.readline().strip()
    while True:
        try:
            urllib.request.urlopen(address + "health", timeout=5)
            return process, address
        except OSError:
            check(process.poll() is None, "the server with a key ended")
            time.sleep(0.1)


process, keyed = start(0)
driver.get(keyed)
wait.until(lambda d: "asks for a key" in find("#status")[0].get_attribute("textContent"))
check(focused() == "key", "the page does not ask for the key")
driver.switch_to.active_element.send_keys("a-key" + Keys.TAB)
wait.until(lambda d: "server" not in d.title)
driver.find_element(By.ID, "drawer-close").click()
setting("length", "100000")
driver.execute_script("document.getElementById('question').value = arguments[0]", endless)
ask("")
wait.until(lambda d: answers() and len(answers()[0]) > 20 and not finished())
process.kill()
process.wait()
wait.until(lambda d: find(".error") and "was lost before the end" in find(".error")[-1].text and finished())
process, keyed = start(urllib.parse.urlsplit(keyed).port)
setting("length", "20")
[b for b in find(".turn.assistant button") if b.text == "Retry"][-1].click()
wait.until(lambda d: answers() and answers()[0] and not find(".error") and finished())
process.terminate()
check(process.wait(30) == 0, "the server with a key ended with", process.returncode)
driver.quit()
print("the page works in Chromium")
