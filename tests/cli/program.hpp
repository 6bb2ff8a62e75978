// Runs the program and keeps what it said. The program is that of the build, or the one in $DELTATUNE_PROGRAM; where $DELTATUNE_DEVICE is set,
// the commands that have a device run on it.
#pragma once

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "deltatune/io/safetensors.hpp"
#include "support/conformance_cases.hpp"
#include "support/temporary_folder.hpp"

namespace deltatune::test {

struct Outcome {
  int code = 0;
  std::string out, err;
};

inline std::string shell_quoted(const std::string& text) {
  std::string quoted = "'";
  for (const char c : text) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

// The variable's value; `otherwise` when it is not set.
inline std::string environment(const char* name, const char* otherwise) {
  const char* const value = std::getenv(name);
  return value != nullptr ? value : otherwise;
}

// Threads that wait sleep: tests share the machine. before: shell commands to run in front, in the same shell.
inline Outcome run_program(std::vector<std::string> arguments, const std::string& before = "") {
  const TemporaryFolder folder;
  std::string command = "export OMP_WAIT_POLICY=passive; " + before + " " + shell_quoted(environment("DELTATUNE_PROGRAM", DELTATUNE_PROGRAM));
  const std::string device = environment("DELTATUNE_DEVICE", "");
  const auto has = [&arguments](const char* word) { return std::find(arguments.begin(), arguments.end(), word) != arguments.end(); };
  if (!device.empty() && !has("--device") && !arguments.empty() &&
      (has("train") || has("evaluate") || has("predict") || has("forward") || has("generate") || has("chat")))
    arguments.insert(arguments.begin() + 1, {"--device", device});
  for (const std::string& argument : arguments) command += " " + shell_quoted(argument);
  command += " >" + shell_quoted((folder / "out").string()) + " 2>" + shell_quoted((folder / "err").string());
  const int status = std::system(command.c_str());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, content_of(folder / "out"), content_of(folder / "err")};
}

// Starts the program and returns its process id. What it says on standard error and standard output goes to the files.
inline pid_t start_program(std::vector<std::string> arguments, const std::filesystem::path& err, const std::filesystem::path& out = "/dev/null") {
  const std::string device = environment("DELTATUNE_DEVICE", "");
  if (!device.empty()) arguments.insert(arguments.begin() + 1, {"--device", device});
  arguments.insert(arguments.begin(), environment("DELTATUNE_PROGRAM", DELTATUNE_PROGRAM));
  std::vector<char*> words;
  for (std::string& word : arguments) words.push_back(word.data());
  words.push_back(nullptr);
  const pid_t child = ::fork();
  if (child != 0) return child;
  const int log = ::open(err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0666), answers = ::open(out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0666);
  ::dup2(log, STDERR_FILENO);
  ::dup2(answers, STDOUT_FILENO);
  ::execv(words[0], words.data());
  ::_exit(99);
}

inline std::string last_line(std::string text) {
  while (text.ends_with('\n')) text.pop_back();
  return text.substr(text.rfind('\n') + 1);  // npos + 1 is 0
}

// Of --json.
inline nlohmann::json last_json(const Outcome& outcome) { return nlohmann::json::parse(last_line(outcome.out)); }

// What the program said, which has to succeed.
inline Outcome checked(const std::vector<std::string>& arguments) {
  Outcome outcome = run_program(arguments);
  INFO(outcome.out << outcome.err);
  REQUIRE(outcome.code == 0);
  return outcome;
}

// The program has to have failed, with an error on the last line, and all these words somewhere.
inline void check_failure(const Outcome& outcome, const std::vector<std::string>& words) {
  INFO(outcome.out << outcome.err);
  CHECK(outcome.code == 1);
  CHECK(last_line(outcome.err).starts_with("error: "));
  for (const std::string& word : words) {
    INFO(word);
    CHECK(outcome.err.find(word) != std::string::npos);
  }
}

inline std::vector<float> floats(const TensorInfo& tensor) {
  std::vector<float> values(static_cast<std::size_t>(element_count(tensor.shape)));
  read_floats(tensor, std::span<float>(values));
  return values;
}

// A model folder with a tokenizer of a few words, made from one of the conformance models (three classes, 40 positions).
inline void make_text_model(const std::filesystem::path& folder) {
  std::filesystem::create_directories(folder);
  for (const char* file : {"config.json", "model.safetensors"}) std::filesystem::copy_file(kModels / "bert_gelu" / file, folder / file);
  std::ofstream(folder / "vocab.txt") << "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\ngood\nbad\nso\nso-so\nday\n,\n\"\n.\n##s\nnight\n";
}

// Labelled rows, a third of each class.
inline std::string toy_table(int rows, const std::array<std::string, 3>& labels = {"poor", "fine", "neither"}) {
  const std::array<std::string, 3> texts{"bad day", "good night", "so so"};
  std::string table = "text,label\n";
  for (std::size_t i = 0; i < static_cast<std::size_t>(rows); ++i) table += texts[i % 3] + "," + labels[i % 3] + "\n";
  return table;
}

// A text model, and labelled rows for it in data.csv.
struct TextPlace {
  explicit TextPlace(int rows) {
    make_text_model(folder / "model");
    folder.file("data.csv", toy_table(rows));
  }

  std::string path(const std::string& name) const { return (folder / name).string(); }

  TemporaryFolder folder;
};

}  // namespace deltatune::test
