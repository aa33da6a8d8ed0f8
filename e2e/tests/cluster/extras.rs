//! Extras come while the cluster is up, and each is used as its clients use it.

use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use freshet_e2e::cluster::{Address, Cluster, Extra, Pki, SharedCluster, wait_for};
use freshet_e2e::install::POSTGRES_PROGRAMS;
use freshet_e2e::scenario::cluster::{Pilot, PlainPod, Scene};
use freshet_e2e::servers::Scratch;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};

use crate::kubectl::Kubectl;
use crate::{PATIENCE, wait};

/// The cluster with an extra, and where that is. Who asks for it again starts nothing.
fn with(extra: Extra) -> (Cluster, Address) {
    let cluster = SharedCluster::with(&[extra]);
    let address = cluster.address(extra.name()).unwrap().clone();
    (cluster, address)
}

/// What a file of a Secret of the servers says.
fn secret(cluster: &Cluster, name: &str, file: &str) -> String {
    let kubectl = Kubectl::new(&cluster.kubeconfig(), "freshet-servers");
    let template = format!("go-template={{{{index .data \"{file}\" | base64decode}}}}");
    kubectl.ok(&["get", "secret", name, "-o", &template])
}

/// A pod of the cluster with a shell, to ask servers from.
fn asking(scene: &Scene) -> impl Fn(&str) -> String {
    let mut pod = PlainPod::new("asks", freshet_e2e::images::ImageName::Busybox.reference());
    pod.command = ["sleep", "3600"].map(str::to_owned).to_vec();
    pod.grace_seconds = 1;
    scene.start(&pod).unwrap();
    scene.wait_running("asks", 0).unwrap();
    |command| scene.exec("asks", &["sh", "-c", command]).unwrap()
}

/// Remembers what the client says of its connections.
#[derive(Default)]
struct Said(Mutex<Vec<KafkaError>>);

impl ClientContext for Said {
    fn error(&self, error: KafkaError, _reason: &str) {
        self.0.lock().unwrap().push(error);
    }
}

impl ConsumerContext for Said {}

/// What a client with these settings is told by the brokers' door.
fn refusal(settings: &ClientConfig) -> Vec<RDKafkaErrorCode> {
    let mut settings = settings.clone();
    settings.set_log_level(RDKafkaLogLevel::Emerg);
    let consumer: BaseConsumer<Said> = settings.create_with_context(Said::default()).unwrap();
    wait("the client to be refused", || {
        assert!(consumer.fetch_metadata(None, Duration::from_secs(1)).is_err(), "it was let in");
        drop(consumer.poll(Duration::from_millis(100)));
        let said = consumer.context().0.lock().unwrap();
        let codes: Vec<_> = said.iter().filter_map(KafkaError::rdkafka_error_code).collect();
        let why = [RDKafkaErrorCode::Authentication, RDKafkaErrorCode::SSL];
        if codes.iter().any(|code| why.contains(code)) { Ok(codes) } else { Err(format!("{said:?}")) }
    })
}

#[test]
fn kafka_lets_its_user_in_over_tls_and_nobody_else() {
    let (cluster, address) = with(Extra::Sasl);
    let property = |name: &str| address.properties[name].as_str();
    let mut user = ClientConfig::new();
    user.set("bootstrap.servers", &address.machine)
        .set("security.protocol", property("securityProtocol"))
        .set("sasl.mechanism", property("mechanism"))
        .set("sasl.username", property("username"))
        .set("sasl.password", property("password"))
        .set("ssl.ca.location", property("caFile"));

    let topic = format!("extras-{}", std::process::id());
    let admin: AdminClient<DefaultClientContext> = user.create().unwrap();
    let new = [NewTopic::new(&topic, 1, TopicReplication::Fixed(-1))];
    let made = wait_for(async { admin.create_topics(&new, &AdminOptions::new()).await });
    made.unwrap().into_iter().for_each(|one| drop(one.unwrap()));
    let producer: BaseProducer = user.clone().set("transactional.id", &topic).create().unwrap();
    producer.init_transactions(PATIENCE).unwrap();
    producer.begin_transaction().unwrap();
    producer.send(BaseRecord::<(), str>::to(&topic).payload("over TLS")).unwrap();
    producer.commit_transaction(PATIENCE).unwrap();
    let mut reading = user.clone();
    reading.set("group.id", &topic).set("auto.offset.reset", "earliest").set("sasl.mechanism", "SCRAM-SHA-256");
    let consumer: BaseConsumer = reading.create().unwrap();
    consumer.subscribe(&[&topic]).unwrap();
    let text = wait("the record", || match consumer.poll(Duration::from_millis(200)) {
        Some(Ok(record)) => Ok(String::from_utf8_lossy(record.payload().unwrap()).into_owned()),
        other => Err(format!("{other:?}")),
    });
    assert_eq!(text, "over TLS");
    drop(consumer);

    let wrong = |name: &str, value: &str| refusal(user.clone().set(name, value));
    assert!(wrong("sasl.password", "not-the-password").contains(&RDKafkaErrorCode::Authentication));
    assert!(wrong("sasl.username", "nobody").contains(&RDKafkaErrorCode::Authentication));
    let scratch = Scratch::new("another-authority").unwrap();
    let other = Pki::open(scratch.path()).unwrap().authority().certificate;
    let stranger = wrong("ssl.ca.location", &other.display().to_string());
    assert!(stranger.contains(&RDKafkaErrorCode::SSL), "{stranger:?}");

    // The listener without stays, and knows the same topics.
    let mut plain = ClientConfig::new();
    plain.set("bootstrap.servers", &cluster.address("kafka").unwrap().machine);
    let admin: AdminClient<DefaultClientContext> = plain.create().unwrap();
    let deleted = wait_for(async { admin.delete_topics(&[&topic], &AdminOptions::new()).await });
    deleted.unwrap().into_iter().for_each(|one| drop(one.unwrap()));

    // Pods find it, and what lets them in.
    assert_eq!(address.pods, "kafka.freshet-servers.svc:9094");
    for (file, name) in [("username", "username"), ("password", "password")] {
        assert_eq!(secret(&cluster, "kafka", file), property(name));
    }
    let authority = std::fs::read_to_string(property("caFile")).unwrap();
    assert_eq!(secret(&cluster, "kafka", "ca.crt"), authority);
    let scene = Scene::new("cluster::extras_sasl").unwrap();
    let said = asking(&scene)("nc -w 5 kafka.freshet-servers.svc 9094 -e /bin/true && echo it listens");
    assert!(said.contains("it listens"), "{said}");
}

#[test]
fn postgres_keeps_what_it_is_told_and_its_changes_can_be_followed() {
    let (cluster, address) = with(Extra::Postgres);
    let property = |name: &str| address.properties[name].as_str();
    let (host, port) = address.machine.split_once(':').unwrap();
    let ask = |password: &str, question: &str| {
        let mut psql = Command::new(format!("{POSTGRES_PROGRAMS}/psql"));
        psql.args(["-h", host, "-p", port, "-U", property("username"), "-d", property("database")]);
        psql.args(["-v", "ON_ERROR_STOP=1", "-tAqc", question]).env("PGPASSWORD", password);
        let output = psql.env("PGCONNECT_TIMEOUT", "5").output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).trim().to_owned();
        if output.status.success() { Ok(said) } else { Err(said) }
    };
    let asks = |question: &str| ask(property("password"), question).unwrap();
    assert_eq!(asks("SHOW wal_level"), "logical");
    let table = format!("extras_{}", std::process::id());
    asks(&format!("SELECT pg_create_logical_replication_slot('{table}', 'test_decoding')"));
    asks(&format!("CREATE TABLE {table} (v int); INSERT INTO {table} VALUES (42)"));
    let changes = asks(&format!("SELECT data FROM pg_logical_slot_get_changes('{table}', NULL, NULL)"));
    assert!(changes.contains("INSERT: v[integer]:42"), "{changes}");
    let refused = ask("not-the-password", "SELECT 1").unwrap_err();
    assert!(refused.contains("password authentication failed"), "{refused}");

    // It is killed, and comes back with what it had.
    cluster.kill9("postgres/postgres").unwrap();
    cluster.mend().unwrap();
    assert_eq!(asks(&format!("SELECT v FROM {table}")), "42");
    asks(&format!("SELECT pg_drop_replication_slot('{table}'); DROP TABLE {table}"));

    assert_eq!(secret(&cluster, "postgres", "password"), property("password"));
    let scene = Scene::new("cluster::extras_postgres").unwrap();
    let said = asking(&scene)("nc -w 5 postgres.freshet-servers.svc 5432 -e /bin/true && echo it listens");
    assert!(said.contains("it listens"), "{said}");
}

#[test]
fn the_registry_gives_back_what_it_was_given() {
    let (cluster, address) = with(Extra::Registry);
    let ask = |method: reqwest::Method, path: &str, body: Option<&Value>| -> Result<Value, String> {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let mut request = client.request(method, format!("{}{path}", address.machine)).timeout(Duration::from_secs(20));
        if let Some(body) = body {
            request = request.header("Content-Type", "application/vnd.schemaregistry.v1+json").body(body.to_string());
        }
        wait_for(async {
            let answer = request.send().await.map_err(|error| error.to_string())?;
            let (status, text) = (answer.status(), answer.text().await.map_err(|error| error.to_string())?);
            if status.is_success() {
                Ok(serde_json::from_str(&text).unwrap())
            } else {
                Err(format!("{status}: {text}"))
            }
        })
    };
    let (get, post) = (reqwest::Method::GET, reqwest::Method::POST);
    let subject = format!("extras-{}-value", std::process::id());
    let record =
        |fields: Value| json!({"schema": json!({"type": "record", "name": "Order", "fields": fields}).to_string()});
    let first = record(json!([{"name": "id", "type": "long"}]));
    let versions = format!("/subjects/{subject}/versions");
    let made = ask(post.clone(), &versions, Some(&first)).unwrap();
    let id = made["id"].as_u64().unwrap_or_else(|| panic!("{made}"));
    let back = ask(get.clone(), &format!("/schemas/ids/{id}"), None).unwrap();
    let schema = |text: &Value| serde_json::from_str::<Value>(text["schema"].as_str().unwrap()).unwrap();
    assert_eq!(schema(&back), schema(&first));

    // What readers of before could not read is refused, once that is asked for.
    ask(reqwest::Method::PUT, &format!("/config/{subject}"), Some(&json!({"compatibility": "BACKWARD"}))).unwrap();
    let other = record(json!([{"name": "id", "type": "long"}, {"name": "new", "type": "string"}]));
    let refused = ask(post, &versions, Some(&other)).unwrap_err();
    assert!(refused.contains("409") || refused.contains("422"), "{refused}");

    // It is killed, and comes back with what it had.
    cluster.kill9("registry/apicurio").unwrap();
    cluster.mend().unwrap();
    let latest = ask(get, &format!("{versions}/latest"), None).unwrap();
    assert_eq!((latest["id"].as_u64(), schema(&latest)), (Some(id), schema(&first)));

    let scene = Scene::new("cluster::extras_registry").unwrap();
    let said = asking(&scene)(&format!("wget -q -O - {}/subjects", address.pods));
    assert!(said.contains(&subject), "{said}");
}

#[test]
fn prometheus_shows_what_workers_and_annotated_pods_measure() {
    let (_, address) = with(Extra::Prometheus);
    let scene = Scene::new("cluster::extras_prometheus").unwrap();
    let pilot = Pilot::new(&scene, &scene.around.store_from_pods).unwrap();
    scene.config_map("job", &pilot.manifests).unwrap();
    let runtime = |name: &str, arguments: &[&str]| {
        let mut pod = PlainPod::new(name, &scene.around.image);
        pod.args = arguments.iter().map(|&word| word.to_owned()).collect();
        pod.manifests = Some("job".to_owned());
        pod.store = true;
        pod
    };
    scene.run_once(&runtime("assign", &["assign", "/etc/freshet/job", "--slots", "1"])).unwrap();
    let arguments = ["worker", "/etc/freshet/job", "--slot", "0", "--listen", "0.0.0.0:8080"];
    scene.start(&PlainPod { port: Some(8080), ..runtime("worker", &arguments) }).unwrap();
    let script = "mkdir /tmp/www && echo annotated_value 42 > /tmp/www/figures && exec httpd -f -p 8000 -h /tmp/www";
    let mut annotated = PlainPod::new("annotated", freshet_e2e::images::ImageName::Busybox.reference());
    annotated.command = ["sh", "-c", script].map(str::to_owned).to_vec();
    annotated.memory = Some(("/tmp".to_owned(), 1 << 20));
    annotated.grace_seconds = 1;
    let notes = [("scrape", "true"), ("port", "8000"), ("path", "/figures")];
    annotated.annotations = notes.map(|(name, value)| (format!("prometheus.io/{name}"), value.to_owned())).to_vec();
    scene.start(&annotated).unwrap();

    let value = |metric: &str, pod: &str| {
        let query = format!("{metric}{{namespace=\"{}\",pod=\"{pod}\"}}", scene.namespace);
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = client.get(format!("{}/api/v1/query", address.machine)).query(&[("query", &query)]);
        wait_for(async {
            let answer = request.send().await.map_err(|error| error.to_string())?;
            let text = answer.text().await.map_err(|error| error.to_string())?;
            let answer: Value = serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))?;
            let value = answer["data"]["result"][0]["value"][1].as_str().map(str::to_owned);
            value.ok_or_else(|| format!("{query}: {text}"))
        })
    };
    for pod in ["annotated", "worker"] {
        wait(&format!("{pod} to be up for Prometheus"), || match value("up", pod)?.as_str() {
            "1" => Ok(()),
            other => Err(format!("up is {other}")),
        });
    }
    assert_eq!(wait("the pod's own figure", || value("annotated_value", "annotated")), "42");
    assert_eq!(wait("the worker's build", || value("freshet_build_info", "worker")), "1");
    let tasks = wait("the worker's tasks", || match value("freshet_tasks", "worker")?.parse::<u32>() {
        Ok(tasks) if tasks > 0 => Ok(tasks),
        other => Err(format!("{other:?}")),
    });
    println!("{tasks} tasks");
}
