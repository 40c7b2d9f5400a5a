"""The page in Chromium: page.py URL PICTURE [SCREENSHOT]. Drops a picture, asks, stops, edits, looks at the gates."""
import base64
import sys
import time

from selenium import webdriver
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
wait = WebDriverWait(driver, 60)


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


def drop(path):
    driver.execute_script(
        """const bytes = Uint8Array.from(atob(arguments[0]), (c) => c.charCodeAt(0));
           const transfer = new DataTransfer();
           transfer.items.add(new File([bytes], 'picture.png', { type: 'image/png' }));
           document.body.dispatchEvent(new DragEvent('drop', { dataTransfer: transfer, bubbles: true, cancelable: true }));""",
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

# an answer that is stopped, and asked for again
setting("length", "100000")
setting("temperature", "5")
ask("Tell me everything, " * 3)
wait.until(lambda d: len(answers()) == 2 and len(answers()[1]) > 20)
if not finished():
    find("#stop")[0].click()
wait.until(lambda d: finished())
setting("temperature", "0")
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

severe = [e for e in driver.get_log("browser") if e["level"] == "SEVERE" and "422" not in e["message"]]
check(not severe, severe)
driver.quit()
print("the page works in Chromium")
