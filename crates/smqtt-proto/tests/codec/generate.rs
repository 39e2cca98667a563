//! Generated packets of both versions.

use std::num::NonZeroU16;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use smqtt_proto::packet::*;
use smqtt_proto::*;

/// A packet of this version, any of those that it has.
pub(crate) fn packet(version: ProtocolVersion) -> BoxedStrategy<Packet> {
    let v5 = version.is_v5();
    let common = prop_oneof![
        1 => connect(version).prop_map(|connect| Packet::Connect(Box::new(connect))),
        1 => connack(v5).prop_map(|connack| Packet::ConnAck(Box::new(connack))),
        4 => publish(v5).prop_map(Packet::Publish),
        1 => ack(v5, &[0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99]).prop_map(Packet::PubAck),
        1 => ack(v5, &[0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99]).prop_map(Packet::PubRec),
        1 => ack(v5, &[0x00, 0x92]).prop_map(Packet::PubRel),
        1 => ack(v5, &[0x00, 0x92]).prop_map(Packet::PubComp),
        1 => subscribe(v5).prop_map(Packet::Subscribe),
        1 => suback(v5).prop_map(Packet::SubAck),
        1 => unsubscribe(v5).prop_map(Packet::Unsubscribe),
        1 => unsuback(v5).prop_map(Packet::UnsubAck),
        1 => Just(Packet::PingReq),
        1 => Just(Packet::PingResp),
        1 => disconnect(v5).prop_map(Packet::Disconnect),
    ];
    if v5 {
        prop_oneof![14 => common, 1 => auth().prop_map(|auth| Packet::Auth(Box::new(auth)))].boxed()
    } else {
        common.boxed()
    }
}

pub(crate) fn version() -> impl Strategy<Value = ProtocolVersion> {
    prop_oneof![Just(ProtocolVersion::V3_1_1), Just(ProtocolVersion::V5)]
}

pub(crate) fn text() -> BoxedStrategy<MqttString> {
    prop_oneof![
        "[a-z]{0,8}",
        // Everything but U+0000, surrogates can't occur.
        vec(any::<char>().prop_filter("not null", |c| *c != '\0'), 0..20)
            .prop_map(|chars| chars.into_iter().collect::<String>()),
    ]
    .prop_map(|text| MqttString::new(text).expect("neither null nor too long"))
    .boxed()
}

pub(crate) fn topic_name() -> BoxedStrategy<TopicName> {
    prop_oneof!["[a-c/]{1,8}", "\\$SYS/[a-z]{1,4}", "[^+#\u{0}]{1,12}"]
        .prop_map(|text| TopicName::new(text).expect("no wildcards"))
        .boxed()
}

fn topic_filter() -> BoxedStrategy<TopicFilter> {
    let level = prop_oneof!["[a-z]{0,3}", Just("+".to_owned()), Just("é".to_owned())];
    (vec(level, 1..5), any::<bool>(), option::of("[a-z]{1,4}"))
        .prop_map(|(levels, multi, group)| {
            let mut text = levels.join("/");
            if text.is_empty() {
                text.push('x');
            }
            if multi {
                text.push_str("/#");
            }
            if let Some(group) = group {
                text = format!("$share/{group}/{text}");
            }
            TopicFilter::new(text).expect("wildcards where they may be")
        })
        .boxed()
}

fn qos() -> impl Strategy<Value = QoS> {
    prop_oneof![
        Just(QoS::AtMostOnce),
        Just(QoS::AtLeastOnce),
        Just(QoS::ExactlyOnce)
    ]
}

fn packet_id() -> impl Strategy<Value = PacketId> {
    any::<NonZeroU16>().prop_map(PacketId::from)
}

fn user_properties() -> BoxedStrategy<UserProperties> {
    vec((text(), text()), 0..3).boxed()
}

fn payload() -> impl Strategy<Value = Bytes> {
    prop_oneof![4 => vec(any::<u8>(), 0..64), 1 => vec(any::<u8>(), 120..300), 1 => vec(any::<u8>(), 1000..1100)]
        .prop_map(Bytes::from)
}

fn binary() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

fn credential() -> impl Strategy<Value = Credential> {
    binary().prop_map(Credential::new)
}

/// Method and data: data never without method.
fn authentication() -> BoxedStrategy<(Option<MqttString>, Option<Credential>)> {
    option::of((text(), option::of(credential())))
        .prop_map(|both| both.map_or((None, None), |(method, data)| (Some(method), data)))
        .boxed()
}

fn reason(codes: &'static [u8]) -> impl Strategy<Value = ReasonCode> {
    prop::sample::select(codes).prop_map(|code| ReasonCode::from_u8(code).expect("a reason code"))
}

/// The default in MQTT 3.1.1, which has no properties.
fn only_v5<T: Clone + Default + std::fmt::Debug + 'static>(
    v5: bool,
    strategy: impl Strategy<Value = T> + 'static,
) -> BoxedStrategy<T> {
    if v5 {
        prop_oneof![Just(T::default()), strategy].boxed()
    } else {
        Just(T::default()).boxed()
    }
}

pub(crate) fn publish_properties() -> impl Strategy<Value = PublishProperties> {
    (
        option::of(any::<bool>()),
        option::of(any::<u32>()),
        option::of(any::<NonZeroU16>()),
        option::of(topic_name()),
        option::of(binary()),
        user_properties(),
        vec(1..=268_435_455_u32, 0..6),
        option::of(text()),
    )
        .prop_map(
            |(
                utf8,
                expiry,
                topic_alias,
                response_topic,
                correlation_data,
                user,
                ids,
                content_type,
            )| {
                let mut properties = PublishProperties::from(MessageProperties {
                    payload_is_utf8: utf8,
                    message_expiry_interval: expiry,
                    response_topic,
                    correlation_data,
                    user_properties: user,
                    subscription_ids: ids.into(),
                    content_type,
                });
                properties.topic_alias = topic_alias;
                properties
            },
        )
}

pub(crate) fn publish(v5: bool) -> impl Strategy<Value = Publish> {
    (
        (any::<bool>(), qos(), any::<bool>(), any::<bool>()),
        topic_name(),
        packet_id(),
        only_v5(v5, publish_properties()),
        payload(),
    )
        .prop_map(
            |((dup, qos, retain, aliased), topic, id, properties, payload)| {
                let acknowledged = qos != QoS::AtMostOnce;
                let aliased = aliased && properties.topic_alias.is_some();
                Publish {
                    dup: dup && acknowledged,
                    qos,
                    retain,
                    topic: if aliased { TopicName::ALIASED } else { topic },
                    packet_id: acknowledged.then_some(id),
                    properties,
                    payload,
                }
            },
        )
}

fn will(v5: bool) -> impl Strategy<Value = Will> {
    let properties = (
        option::of(any::<u32>()),
        option::of(any::<bool>()),
        option::of(any::<u32>()),
        option::of(text()),
        option::of(topic_name()),
        option::of(binary()),
        user_properties(),
    )
        .prop_map(
            |(delay, utf8, expiry, content_type, response_topic, correlation_data, user)| {
                WillProperties {
                    will_delay_interval: delay,
                    payload_is_utf8: utf8,
                    message_expiry_interval: expiry,
                    content_type,
                    response_topic,
                    correlation_data,
                    user_properties: user,
                }
            },
        );
    (
        topic_name(),
        binary(),
        qos(),
        any::<bool>(),
        only_v5(v5, properties),
    )
        .prop_map(|(topic, payload, qos, retain, properties)| Will {
            topic,
            payload,
            qos,
            retain,
            properties,
        })
}

fn connect(version: ProtocolVersion) -> impl Strategy<Value = Connect> {
    let v5 = version.is_v5();
    let properties = (
        option::of(any::<u32>()),
        option::of(1..=u16::MAX),
        option::of(1..=u32::MAX),
        option::of(any::<u16>()),
        option::of(any::<bool>()),
        option::of(any::<bool>()),
        user_properties(),
        authentication(),
    )
        .prop_map(
            |(expiry, receive, size, alias, response, problem, user, (method, data))| {
                ConnectProperties {
                    session_expiry_interval: expiry,
                    receive_maximum: receive,
                    maximum_packet_size: size,
                    topic_alias_maximum: alias,
                    request_response_information: response,
                    request_problem_information: problem,
                    user_properties: user,
                    authentication_method: method,
                    authentication_data: data,
                }
            },
        );
    (
        any::<bool>(),
        any::<u16>(),
        text(),
        option::of(will(v5)),
        option::of(text()),
        option::of(credential()),
        only_v5(v5, properties),
    )
        .prop_map(
            move |(clean_start, keep_alive, client_id, will, username, password, properties)| {
                // [MQTT-3.1.2-22] of 3.1.1: no password without a user name.
                let password = password.filter(|_| v5 || username.is_some());
                Connect {
                    version,
                    clean_start,
                    keep_alive,
                    client_id,
                    will,
                    username,
                    password,
                    properties,
                }
            },
        )
}

fn connack(v5: bool) -> impl Strategy<Value = ConnAck> {
    let codes: &[u8] = if v5 {
        &[0, 0x80, 0x82, 0x86, 0x87, 0x9C, 0x9F]
    } else {
        &[0, 0x84, 0x85, 0x88, 0x86, 0x87]
    };
    let limits = (
        option::of(any::<u32>()),
        option::of(1..=u16::MAX),
        option::of(prop_oneof![Just(QoS::AtMostOnce), Just(QoS::AtLeastOnce)]),
        option::of(1..=u32::MAX),
        option::of(any::<u16>()),
        option::of(any::<u16>()),
    );
    let flags = (
        option::of(any::<bool>()),
        option::of(any::<bool>()),
        option::of(any::<bool>()),
        option::of(any::<bool>()),
    );
    let texts = (
        option::of(text()),
        option::of(text()),
        option::of(text()),
        option::of(text()),
    );
    let properties = (limits, flags, texts, user_properties(), authentication()).prop_map(
        |(limits, flags, texts, user_properties, (authentication_method, authentication_data))| {
            ConnAckProperties {
                session_expiry_interval: limits.0,
                receive_maximum: limits.1,
                maximum_qos: limits.2,
                maximum_packet_size: limits.3,
                topic_alias_maximum: limits.4,
                server_keep_alive: limits.5,
                retain_available: flags.0,
                wildcard_subscription_available: flags.1,
                subscription_identifiers_available: flags.2,
                shared_subscription_available: flags.3,
                assigned_client_identifier: texts.0,
                reason_string: texts.1,
                response_information: texts.2,
                server_reference: texts.3,
                user_properties,
                authentication_method,
                authentication_data,
            }
        },
    );
    (any::<bool>(), reason(codes), only_v5(v5, properties)).prop_map(
        |(present, reason, properties)| ConnAck {
            session_present: present && reason == ReasonCode::Success,
            reason,
            properties,
        },
    )
}

fn ack_properties() -> impl Strategy<Value = AckProperties> {
    (option::of(text()), user_properties()).prop_map(|(reason_string, user_properties)| {
        AckProperties {
            reason_string,
            user_properties,
        }
    })
}

fn ack(v5: bool, codes: &'static [u8]) -> impl Strategy<Value = Ack> {
    let codes = if v5 { codes } else { &[0] };
    (packet_id(), reason(codes), only_v5(v5, ack_properties())).prop_map(
        |(packet_id, reason, properties)| Ack {
            packet_id,
            reason,
            properties,
        },
    )
}

fn subscribe(v5: bool) -> impl Strategy<Value = Subscribe> {
    let properties =
        (option::of(1..=268_435_455_u32), user_properties()).prop_map(|(id, user_properties)| {
            SubscribeProperties {
                subscription_id: id,
                user_properties,
            }
        });
    let subscription = (topic_filter(), qos(), any::<bool>(), any::<bool>(), 0..3_u8).prop_map(
        move |(filter, qos, local, rap, rh)| {
            let mut options = SubscriptionOptions::new(qos);
            if v5 {
                // [MQTT-3.8.3-4]: no local never with a shared subscription.
                options.no_local = local && !filter.is_shared();
                options.retain_as_published = rap;
                options.retain_handling = RetainHandling::from_u8(rh).expect("0, 1 or 2");
            }
            Subscription { filter, options }
        },
    );
    (
        packet_id(),
        only_v5(v5, properties),
        vec(subscription, 1..4),
    )
        .prop_map(|(packet_id, properties, subscriptions)| Subscribe {
            packet_id,
            properties,
            subscriptions,
        })
}

fn suback(v5: bool) -> impl Strategy<Value = SubAck> {
    let codes: &[u8] = if v5 {
        &[0, 1, 2, 0x80, 0x83, 0x87, 0x8F, 0x9E, 0xA1, 0xA2]
    } else {
        &[0, 1, 2, 0x80]
    };
    (
        packet_id(),
        only_v5(v5, ack_properties()),
        vec(reason(codes), 1..4),
    )
        .prop_map(|(packet_id, properties, reasons)| SubAck {
            packet_id,
            properties,
            reasons,
        })
}

fn unsubscribe(v5: bool) -> impl Strategy<Value = Unsubscribe> {
    let properties =
        user_properties().prop_map(|user_properties| UnsubscribeProperties { user_properties });
    (
        packet_id(),
        only_v5(v5, properties),
        vec(topic_filter(), 1..4),
    )
        .prop_map(|(packet_id, properties, filters)| Unsubscribe {
            packet_id,
            properties,
            filters,
        })
}

fn unsuback(v5: bool) -> impl Strategy<Value = UnsubAck> {
    let count = if v5 { 1..4 } else { 0..1 };
    (
        packet_id(),
        only_v5(v5, ack_properties()),
        vec(reason(&[0, 0x11, 0x80, 0x87, 0x91]), count),
    )
        .prop_map(|(packet_id, properties, reasons)| UnsubAck {
            packet_id,
            properties,
            reasons,
        })
}

fn disconnect(v5: bool) -> impl Strategy<Value = Disconnect> {
    let codes: &[u8] = if v5 {
        &[0, 4, 0x80, 0x81, 0x82, 0x8D, 0x8E, 0x93, 0x9C, 0xA2]
    } else {
        &[0]
    };
    let properties = (
        option::of(any::<u32>()),
        option::of(text()),
        user_properties(),
        option::of(text()),
    )
        .prop_map(
            |(session_expiry_interval, reason_string, user_properties, server_reference)| {
                DisconnectProperties {
                    session_expiry_interval,
                    reason_string,
                    user_properties,
                    server_reference,
                }
            },
        );
    (reason(codes), only_v5(v5, properties))
        .prop_map(|(reason, properties)| Disconnect { reason, properties })
}

fn auth() -> impl Strategy<Value = Auth> {
    let empty = Auth {
        reason: ReasonCode::Success,
        properties: AuthProperties::default(),
    };
    let full = (
        reason(&[0, 0x18, 0x19]),
        text(),
        option::of(credential()),
        option::of(text()),
        user_properties(),
    )
        .prop_map(
            |(reason, method, authentication_data, reason_string, user_properties)| Auth {
                reason,
                properties: AuthProperties {
                    authentication_method: Some(method),
                    authentication_data,
                    reason_string,
                    user_properties,
                },
            },
        );
    prop_oneof![1 => Just(empty), 4 => full]
}
