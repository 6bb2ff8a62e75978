// A conversation with a language model, its messages piped into the program.
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <chrono>
#include <csignal>
#include <functional>
#include <nlohmann/json.hpp>
#include <thread>

#include "cli/language_model.hpp"
#include "cli/program.hpp"
#include "deltatune/text/chat_template.hpp"

using namespace deltatune;
using namespace deltatune::test;
using Arguments = std::vector<std::string>;

namespace {

using Messages = std::vector<std::pair<std::string, std::string>>;  // role and content

struct ChatPlace {
  explicit ChatPlace(Index positions = 400) {
    make_language_model(folder / "model", positions);
    std::filesystem::copy_file(std::filesystem::path(DELTATUNE_TEST_DIR) / "data/chat/chatml.jinja", folder / "model/chat_template.jinja");
  }

  std::string path(const std::string& name) const { return (folder / name).string(); }

  // What follows `command` and the model: six tokens that are drawn, so that they differ where the text in front does, unless `more` says otherwise.
  Arguments arguments(const std::string& command, int seed, const Arguments& more) const {
    Arguments all{command, "--model", path("model")};
    const auto add = [&](const std::string& name, const std::string& value) {
      if (std::find(more.begin(), more.end(), name) == more.end()) all.insert(all.end(), {name, value});
    };
    add("--max-new-tokens", "6");
    add("--temperature", "1.5");
    add("--seed", std::to_string(seed));
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  Outcome chat(const std::string& input, const Arguments& more = {}) const {
    return run_program(arguments("chat", 3, more), "cat " + shell_quoted(folder.file("input", input).string()) + " |");
  }
  // What the program writes as its answer number `before` to the conversation: what 'generate' puts behind the text that the template makes of it.
  std::string answer(int before, const Messages& messages, const Arguments& more = {}) const {
    nlohmann::json list = nlohmann::json::array();
    for (const auto& [role, content] : messages) list.push_back({{"role", role}, {"content", content}});
    const std::string prompt = ChatTemplate::open(folder / "model").render(parse_conversation(list.dump(), "test"), {.add_generation_prompt = true});
    Arguments all = arguments("generate", 3 + before, more);
    all.insert(all.end(), {"--prompt", prompt});
    const Outcome outcome = run_program(all);
    INFO(outcome.err);
    REQUIRE(outcome.code == 0);
    REQUIRE(outcome.out.starts_with(prompt));
    return outcome.out.substr(prompt.size());  // with the end of its line
  }

  // An adapter "lora" that writes the letter a.
  void learn_letter() const {
    const std::string data = folder.file("poem.txt", std::string(200, 'a')).string();
    REQUIRE(run_program({"train", "--task", "lm", "--model", path("model"), "--data", data, "--max-length", "16", "--steps", "60", "--method", "lora",
                         "--targets", "all-linear", "--learning-rate", "3e-2", "--out", path("lora")})
                .code == 0);
  }

  TemporaryFolder folder;
};

std::string line_of(std::string answer) {
  answer.pop_back();
  return answer;
}

bool comes_true(const std::function<bool()>& condition) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (!condition() && std::chrono::steady_clock::now() < deadline) std::this_thread::sleep_for(std::chrono::milliseconds(2));
  return condition();
}

}  // namespace

TEST_CASE("turns of a conversation are answered as generate goes on with the template's text", "[cli][lm][chat][covering]") {
  const ChatPlace place;
  const std::string first = place.answer(0, {{"user", "Hello there"}});
  const std::string second = place.answer(1, {{"user", "Hello there"}, {"assistant", line_of(first)}, {"user", "Why?"}});
  const std::string alone = place.answer(2, {{"user", "Why?"}});
  CHECK(second != place.answer(1, {{"user", "Why?"}}));

  // Lines without text are no messages, white space around a message is not its part, and the last line needs no end.
  const Outcome outcome = place.chat("\xEF\xBB\xBFHello there\r\n\n  Why? \n/new\nWhy?");
  INFO(outcome.err);
  REQUIRE(outcome.code == 0);
  CHECK(outcome.out == first + second + alone);
  CHECK(outcome.err.find("> ") == std::string::npos);
  CHECK(outcome.err.find("cut off after 6 tokens; --max-new-tokens allows for more") != std::string::npos);
  CHECK(place.chat("Hello there\n/quit\nWhy?\n").out == first);
  CHECK(place.chat("").out.empty());

  // The system message is there for each conversation.
  const Messages told{{"system", "Be brief."}, {"user", "Why?"}};
  CHECK(place.answer(2, told) != alone);
  CHECK(place.chat("Why?\n/new\nWhy?\n", {"--system", "Be brief."}).out == place.answer(0, told) + place.answer(1, told));
}

TEST_CASE("an answer ends where the template ends it, and with a stop string", "[cli][lm][chat]") {
  const ChatPlace place;
  const std::string whole = line_of(place.answer(0, {{"user", "Why?"}}, {"--max-new-tokens", "16"}));
  const auto is_plain = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'); };
  const std::size_t at = static_cast<std::size_t>(std::find_if(whole.begin() + 1, whole.end(), is_plain) - whole.begin());
  REQUIRE(at < whole.size());
  const std::string end = whole.substr(at, 1);
  const std::string before = whole.substr(0, whole.find(end));

  // The same text in front of the first answer, but answers end with that character, which is a token.
  std::string text = content_of(place.folder / "model/chat_template.jinja");
  const std::string written = "{{- message.content + '<|im_end|>' -}}";
  REQUIRE(text.find(written) != std::string::npos);
  text.replace(text.find(written), written.size(), "{{- message.content + '" + end + "' -}}");
  const std::string file = place.folder.file("ends.jinja", text).string();
  const Outcome ended = place.chat("Why?\n", {"--chat-template", file, "--max-new-tokens", "16"});
  INFO(ended.err);
  CHECK(ended.out == before + "\n");
  CHECK(ended.err.find("cut off") == std::string::npos);

  const Outcome other = place.chat("Why?\n", {"--max-new-tokens", "16"});
  CHECK(other.out == whole + "\n");
  CHECK(other.err.find("the template ends an answer with \"<|im_end|>\", which is no single token") != std::string::npos);

  // The string belongs to the answer, as with generate, and nothing is said about the template's end.
  const Outcome stopped = place.chat("Why?\n", {"--stop", end, "--max-new-tokens", "16"});
  CHECK(stopped.out == before + end + "\n");
  CHECK(stopped.err.find("no single token") == std::string::npos);
}

TEST_CASE("a conversation with an adapter", "[cli][lm][chat]") {
  const ChatPlace place;
  place.learn_letter();
  const Arguments adapter{"--adapter", place.path("lora")};
  const std::string first = place.answer(0, {{"user", "Why?"}}, adapter);
  CHECK(first != place.answer(0, {{"user", "Why?"}}));
  CHECK(place.chat("Why?\nSo\n", adapter).out == first + place.answer(1, {{"user", "Why?"}, {"assistant", line_of(first)}, {"user", "So"}}, adapter));
}

TEST_CASE("the oldest turns are left out where the model has no positions for them", "[cli][lm][chat]") {
  const ChatPlace place(190);
  const Messages system{{"system", "Be brief."}};
  const std::string one = place.answer(0, {system[0], {"user", "one"}});
  const std::string two = place.answer(1, {system[0], {"user", "one"}, {"assistant", line_of(one)}, {"user", "two"}});
  const std::string three = place.answer(2, {system[0], {"user", "two"}, {"assistant", line_of(two)}, {"user", "three"}});
  const Outcome outcome = place.chat("one\ntwo\nthree\n", {"--system", "Be brief."});
  INFO(outcome.err);
  CHECK(outcome.out == one + two + three);
  CHECK(outcome.err.find("note: the oldest 1 turn is left out from here on: the model has 190 positions, of which 6 are for the answer\n") !=
        std::string::npos);

  // Without much room an answer is shorter.
  const Outcome shorter = place.chat("Why?\n", {"--max-new-tokens", "1000", "--temperature", "0"});
  CHECK(shorter.code == 0);
  CHECK(shorter.err.find("tokens, for which the model has positions") != std::string::npos);

  const Outcome too_long = place.chat("one\n" + std::string(200, 'x') + "\n");
  CHECK(too_long.code == 1);
  CHECK(too_long.out == place.answer(0, {{"user", "one"}}));
  CHECK(too_long.err.find("error: standard input: line 2: the message: is longer than the model's positions; expected at most 190 tokens") !=
        std::string::npos);
}

TEST_CASE("what a conversation needs", "[cli][lm][chat][mistakes]") {
  const ChatPlace place;
  const auto fails = [&](const Arguments& more, const std::vector<std::string>& words) {
    const Outcome outcome = place.chat("Why?\n", more);
    check_failure(outcome, words);
    CHECK(outcome.out.empty());
  };
  const std::string refusing = place.folder.file("refusing.jinja", "{{ raise_exception('no, thanks') }}").string();
  fails({"--chat-template", refusing}, {"standard input: line 1", "no, thanks"});
  fails({"--chat-template", place.folder.file("broken.jinja", "{% if %}").string()}, {"broken.jinja"});
  fails({"--chat-template", place.path("nothing.jinja")}, {"nothing.jinja"});
  std::filesystem::rename(place.folder / "model/chat_template.jinja", place.folder / "chat.jinja");
  fails({}, {place.path("model") + ": has no chat template", "--chat-template FILE"});
  CHECK(place.chat("Why?\n", {"--chat-template", place.path("chat.jinja")}).code == 0);
}

TEST_CASE("Ctrl-C ends an answer and not the conversation", "[cli][lm][chat][interrupts]") {
  if (environment("DELTATUNE_DEVICE", "cpu") != std::string("cpu")) return;
  const ChatPlace place(30000);
  place.learn_letter();  // bytes that are no characters would be held back
  const std::filesystem::path out = place.folder / "out", err = place.folder / "err";
  for (const int signal : {SIGINT, SIGTERM}) {
    int pipe[2] = {};
    REQUIRE(::pipe2(pipe, O_CLOEXEC) == 0);
    const int before = ::dup(STDIN_FILENO);
    ::dup2(pipe[0], STDIN_FILENO);
    const pid_t child =
        start_program({"chat", "--model", place.path("model"), "--adapter", place.path("lora"), "--max-new-tokens", "14000", "--threads", "1"}, err, out);
    ::dup2(before, STDIN_FILENO);
    ::close(before);
    const auto say = [&pipe](const std::string& line) { CHECK(::write(pipe[1], line.data(), line.size()) == static_cast<ssize_t>(line.size())); };
    // Until the program has read what was said and answers it.
    const auto answers = [&] {
      int unread = 0;
      if (!comes_true([&] { return ::ioctl(pipe[0], FIONREAD, &unread) == 0 && unread == 0; })) return false;
      const std::size_t said = content_of(out).size();
      return comes_true([&] { return content_of(out).size() > said; });
    };
    const auto interrupted = [&err](int times) {
      const std::string text = content_of(err), note = "Ctrl-C: ending the answer; once more stops at once\n";
      int found = 0;
      for (std::size_t at = text.find(note); at != std::string::npos; at = text.find(note, at + 1)) ++found;
      return found == times;
    };
    say("Why?\n");
    CHECK(answers());
    ::kill(child, signal);
    if (signal == SIGINT) {
      CHECK(comes_true([&] { return interrupted(1); }));
      say("So?\n");
      CHECK(answers());
      ::kill(child, signal);
      CHECK(comes_true([&] { return interrupted(2); }));
      say("/quit\n");
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    ::close(pipe[0]);
    ::close(pipe[1]);
    INFO(content_of(err));
    REQUIRE(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == (signal == SIGINT ? 0 : 128 + SIGTERM));
    CHECK(content_of(err).find("cut off") == std::string::npos);
  }
}
