// Feeds events to libsinsp just as Falco does, and tells what it made of them.
//
// The events come from a source plugin (--plugin) or from a file of raw events (--events, see replay.cpp). Standard
// output gets one JSON object a line: for each event its number, the fields asked for (null where it has no such
// field) and the names of the filters that match; then a summary. The exit status tells how the run ended.
#include "replay.h"

#include <libsinsp/filter.h>
#include <libsinsp/filter_check_list.h>
#include <libsinsp/filterchecks.h>
#include <libsinsp/plugin.h>
#include <libsinsp/sinsp.h>

#include <getopt.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <limits>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

namespace {

constexpr const char *usage =
    "usage: driver (--plugin FILE.so [--config TEXT] [--params TEXT] | --events FILE) [--fields NAME,NAME...]\n"
    "              [--filters FILE] [--max-events N] [--timeout SECONDS]\n"
    "  --plugin      the source plugin to load, with its init configuration and its open parameters\n"
    "  --events      a file of raw events, one after another, to play back instead\n"
    "  --fields      what to tell of each event (default: evt.type)\n"
    "  --filters     conditions to try on each event, a line each: NAME<tab>CONDITION\n"
    "  --max-events  end after that many events\n"
    "  --timeout     end after that many seconds (default: 30)\n"
    "exit status: 0 the capture ended or --max-events was reached, 2 bad arguments, fields or filters,\n"
    "  3 the plugin failed, 4 the engine cannot read an event, 5 timeout, 6 the engine crashed\n";

enum status {
    STATUS_ENDED = 0,
    STATUS_USAGE = 2,
    STATUS_PLUGIN = 3,
    STATUS_EVENT = 4,
    STATUS_TIMEOUT = 5,
    STATUS_CRASH = 6,
};

struct failure {
    status code;
    std::string message;
};

struct options {
    std::string plugin, config, params, events, filters;
    std::string fields = "evt.type";
    uint64_t events_max = std::numeric_limits<uint64_t>::max();
    unsigned timeout_s = 30;
};

struct field {
    std::string name;
    std::unique_ptr<sinsp_filter_check> check;
};

struct filter {
    std::string name;
    std::unique_ptr<sinsp_filter> condition;
    uint64_t matches = 0;
};

struct summary {
    uint64_t events = 0;
    // Events that the engine took but did not give out.
    uint64_t withheld = 0;
    const char *end = "";
    std::string error;
};

uint64_t number(const char *option, const char *text, uint64_t max) {
    char *end = nullptr;
    errno = 0;
    uint64_t value = std::strtoull(text, &end, 10);
    if (errno != 0 || end == text || *end != 0 || *text == '-' || value > max) {
        throw failure{STATUS_USAGE, std::string(option) + " " + text + ": not a number from 0 to " +
                                        std::to_string(max)};
    }
    return value;
}

options parse(int argc, char **argv) {
    static const option known[] = {
        {"plugin", required_argument, nullptr, 'p'},     {"config", required_argument, nullptr, 'c'},
        {"params", required_argument, nullptr, 'o'},     {"events", required_argument, nullptr, 'e'},
        {"fields", required_argument, nullptr, 'f'},     {"filters", required_argument, nullptr, 'r'},
        {"max-events", required_argument, nullptr, 'm'}, {"timeout", required_argument, nullptr, 't'},
        {nullptr, 0, nullptr, 0},
    };
    options given;
    for (int name; (name = getopt_long(argc, argv, "", known, nullptr)) != -1;) {
        switch (name) {
            case 'p': given.plugin = optarg; break;
            case 'c': given.config = optarg; break;
            case 'o': given.params = optarg; break;
            case 'e': given.events = optarg; break;
            case 'f': given.fields = optarg; break;
            case 'r': given.filters = optarg; break;
            case 'm':
                given.events_max = number("--max-events", optarg, std::numeric_limits<uint64_t>::max());
                break;
            case 't': given.timeout_s = static_cast<unsigned>(number("--timeout", optarg, 86400)); break;
            default: throw failure{STATUS_USAGE, usage};
        }
    }
    if (optind != argc || given.plugin.empty() == given.events.empty()) {
        throw failure{STATUS_USAGE, usage};
    }
    return given;
}

std::vector<field> compile_fields(sinsp &engine, const sinsp_filter_check_list &known, const std::string &names) {
    std::vector<field> fields;
    std::istringstream list(names);
    for (std::string name; std::getline(list, name, ',');) {
        try {
            auto check = known.new_filter_check_from_fldname(name, &engine, true);
            if (!check || check->parse_field_name(name, true, false) != static_cast<int32_t>(name.size())) {
                throw sinsp_exception("the engine knows no such field");
            }
            fields.push_back({name, std::move(check)});
        } catch (const std::exception &error) {
            throw failure{STATUS_USAGE, "field '" + name + "': " + error.what()};
        }
    }
    return fields;
}

std::vector<filter> compile_filters(sinsp &engine, const std::string &path) {
    std::vector<filter> filters;
    if (path.empty()) {
        return filters;
    }
    std::ifstream file(path);
    if (!file) {
        throw failure{STATUS_USAGE, path + ": " + std::strerror(errno)};
    }
    unsigned number = 0;
    for (std::string line; std::getline(file, line);) {
        number++;
        size_t tab = line.find('\t');
        if (tab == std::string::npos) {
            throw failure{STATUS_USAGE, path + ":" + std::to_string(number) + ": not NAME<tab>CONDITION"};
        }
        std::string name = line.substr(0, tab);
        try {
            filters.push_back({name, sinsp_filter_compiler(&engine, line.substr(tab + 1)).compile()});
        } catch (const std::exception &error) {
            throw failure{STATUS_USAGE,
                          path + ":" + std::to_string(number) + ": filter '" + name + "': " + error.what()};
        }
    }
    return filters;
}

std::shared_ptr<sinsp_plugin> load_plugin(sinsp &engine, const options &given) {
    try {
        auto plugin = given.plugin.empty() ? engine.register_plugin(replay_plugin())
                                           : engine.register_plugin(given.plugin);
        std::string error;
        if (!plugin->init(given.config, error)) {
            throw failure{STATUS_PLUGIN, "init: " + error};
        }
        return plugin;
    } catch (const std::exception &error) {
        throw failure{STATUS_PLUGIN, std::string("loading: ") + error.what()};
    }
}

void open_plugin(sinsp &engine, const sinsp_plugin &plugin, const options &given) {
    try {
        const std::string &params = given.plugin.empty() ? given.events : given.params;
        // Falco opens a plugin with id 0 as a source of system calls, with all that it knows of the machine.
        engine.open_plugin(plugin.name(), params, sinsp_plugin_platform::SINSP_PLATFORM_FULL);
    } catch (const std::exception &error) {
        throw failure{STATUS_PLUGIN, std::string("open: ") + error.what()};
    }
}

void print(const Json::Value &object) {
    static const std::unique_ptr<Json::StreamWriter> writer = [] {
        Json::StreamWriterBuilder builder;
        builder["indentation"] = "";
        return std::unique_ptr<Json::StreamWriter>(builder.newStreamWriter());
    }();
    writer->write(object, &std::cout);
    // Flushed line by line: after a crash the last line tells which event was still read.
    std::cout << std::endl;
}

void print_event(sinsp_evt &event, uint64_t number, std::vector<field> &fields, std::vector<filter> &filters) {
    Json::Value line;
    line["event"] = number;
    line["fields"] = Json::objectValue;
    for (field &wanted : fields) {
        const char *text = wanted.check->tostring(&event);
        line["fields"][wanted.name] = text == nullptr ? Json::Value() : Json::Value(text);
    }
    line["matches"] = Json::arrayValue;
    for (filter &tried : filters) {
        if (tried.condition->run(&event)) {
            tried.matches++;
            line["matches"].append(tried.name);
        }
    }
    print(line);
}

void print_summary(const summary &run, const std::vector<filter> &filters) {
    Json::Value line;
    line["end"] = run.end;
    line["events"] = run.events;
    line["withheld"] = run.withheld;
    line["error"] = run.error.empty() ? Json::Value() : Json::Value(run.error);
    line["matches"] = Json::objectValue;
    for (const filter &tried : filters) {
        line["matches"][tried.name] = tried.matches;
    }
    Json::Value object;
    object["summary"] = line;
    print(object);
}

status read_events(sinsp &engine, const options &given, std::vector<field> &fields, std::vector<filter> &filters,
                   summary &run) {
    auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(given.timeout_s);
    while (run.events < given.events_max) {
        if (std::chrono::steady_clock::now() >= deadline) {
            run.end = "timeout";
            return STATUS_TIMEOUT;
        }
        try {
            sinsp_evt *event = nullptr;
            switch (engine.next(&event)) {
                case SCAP_SUCCESS:
                    run.events++;
                    print_event(*event, run.events, fields, filters);
                    break;
                case SCAP_TIMEOUT: break;
                case SCAP_FILTERED_EVENT: run.withheld++; break;
                case SCAP_EOF: run.end = "end of capture"; return STATUS_ENDED;
                default:
                    run.error = engine.getlasterr();
                    run.end = given.plugin.empty() ? "event error" : "plugin error";
                    return given.plugin.empty() ? STATUS_EVENT : STATUS_PLUGIN;
            }
        } catch (const std::exception &error) {
            run.error = error.what();
            run.end = "event error";
            return STATUS_EVENT;
        }
    }
    run.end = "max events";
    return STATUS_ENDED;
}

[[noreturn]] void die(const char *message, status code) {
    // Whether the message got out changes nothing: the status tells the same.
    [[maybe_unused]] ssize_t written = write(STDERR_FILENO, message, std::strlen(message));
    _exit(code);
}

void crashed(int) { die("driver: the engine crashed at the event after the last one printed\n", STATUS_CRASH); }

void hung(int) { die("driver: the engine hangs at the event after the last one printed\n", STATUS_TIMEOUT); }

void arm(unsigned timeout_s) {
    for (int number : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT}) {
        signal(number, crashed);
    }
    // The loop keeps the time itself. The alarm is for an engine or a plugin that never comes back to it.
    signal(SIGALRM, hung);
    alarm(timeout_s + 5);
}

status drive(int argc, char **argv) {
    options given = parse(argc, argv);
    arm(given.timeout_s);
    sinsp engine;
    sinsp_filter_check_list known;
    auto plugin = load_plugin(engine, given);
    auto fields = compile_fields(engine, known, given.fields);
    auto filters = compile_filters(engine, given.filters);
    open_plugin(engine, *plugin, given);
    summary run;
    status code = read_events(engine, given, fields, filters, run);
    print_summary(run, filters);
    return code;
}

}  // namespace

int main(int argc, char **argv) {
    try {
        return drive(argc, argv);
    } catch (const failure &failed) {
        std::cerr << "driver: " << failed.message << std::endl;
        return failed.code;
    }
}
